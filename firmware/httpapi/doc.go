// Package httpapi is the operators' API of a [firmware.Manager]: images, devices, updates, their
// events, and rollouts, as JSON over HTTP. It is one [http.Handler], to be mounted in an existing
// server.
//
//	api, err := httpapi.New(manager, staffOnly, httpapi.Config{})
//	...
//	http.Handle("/ota/", api)
//
// # Calls
//
// Every path starts with /api/v1. The handler ignores what precedes the first /api/v1: the program
// may mount it under any prefix.
//
//	POST   /api/v1/images?version=V&name=N           body: application/octet-stream; answers with the image, also if it exists already;
//	                                                 ?manufacturer, ?model, ?hardware say for which devices it is made
//	GET    /api/v1/images                            ?limit, ?cursor, ?contains
//	GET    /api/v1/images/{image}
//	DELETE /api/v1/images/{image}                    409 while an active update needs it, or the program that runs the server; ?dry_run=true
//	                                                 deletes nothing
//	GET    /api/v1/devices                           ?limit, ?cursor, ?label.NAME, ?manufacturer, ?model, ?hardware, ?version,
//	                                                 ?version_below, ?registered=true, ?state, ?contains: each device that fits all of them
//	GET    /api/v1/devices/{endpoint}                the endpoint is percent-encoded
//	PUT    /api/v1/devices/{endpoint}/labels         body: application/json, {"site": "oslo"}; replaces all its labels
//	GET    /api/v1/fleet                             how many devices there are, by state, version and model
//	DELETE /api/v1/devices/{endpoint}                deletes its record, also that it used credentials; 409 while it has an active update
//	GET    /api/v1/devices/{endpoint}/resources      reads several paths at once: ?path=/3/0/3&path=/5/0
//	PUT    /api/v1/devices/{endpoint}/resources      body: application/json; writes values at several paths at once
//	GET    /api/v1/devices/{endpoint}/resources/...  reads an object, instance or resource, such as resources/3/0/9; ?discover=true
//	PUT    /api/v1/devices/{endpoint}/resources/...  body: application/json; replaces an instance, a resource or a resource instance
//	POST   /api/v1/devices/{endpoint}/resources/...  creates an instance, writes part of one, or executes a resource
//	DELETE /api/v1/devices/{endpoint}/resources/...  deletes an instance or a resource instance
//	POST   /api/v1/devices/{endpoint}/trace          body: {"seconds": 60, "messages": 500, "bytes": 1048576}; begins a trace of its CoAP messages
//	GET    /api/v1/devices/{endpoint}/trace          its messages; with Accept: text/event-stream server-sent events, ?after
//	DELETE /api/v1/devices/{endpoint}/trace          ends it; it can be read for 10 minutes
//	GET    /api/v1/devices/{endpoint}/requests/{request}    the answer to a request with ?wait=false
//	DELETE /api/v1/devices/{endpoint}/requests/{request}    ends it, if it still waits
//	POST   /api/v1/updates                           body: application/json; header Idempotency-Key
//	GET    /api/v1/updates                           ?limit, ?cursor, ?endpoint, ?image, ?outcome, ?reason, ?state, ?whose, ?label, ?contains, ?order
//	GET    /api/v1/counts                            how many updates there are, by image and outcome; ?image
//	GET    /api/v1/updates/{update}                  with its journal
//	DELETE /api/v1/updates/{update}                  with its journal; 409 while it is active, unless its record is damaged
//	POST   /api/v1/updates/{update}/cancel           ends it; to cancel twice is no error
//	POST   /api/v1/updates/{update}/hold             body: application/json; keeps the update from executing
//	POST   /api/v1/updates/{update}/release          body: application/json; ends the hold of one holder
//	POST   /api/v1/updates/{update}/served           the device has fetched the whole package from another server
//	GET    /api/v1/rollouts                          ?limit, ?cursor, ?state=active, ?contains
//	POST   /api/v1/rollouts                          body: application/json; header Idempotency-Key; ?dry_run=true makes none
//	GET    /api/v1/rollouts/{rollout}
//	PATCH  /api/v1/rollouts/{rollout}                body: application/json; concurrency, rate, max_failure, window, end_at, notes
//	DELETE /api/v1/rollouts/{rollout}                with its members and its journal; 409 unless it has ended
//	GET    /api/v1/rollouts/{rollout}/members        ?limit, ?cursor, ?state, ?reason
//	POST   /api/v1/rollouts/{rollout}/members        body: {"endpoint": "dev"}; adds a device
//	GET    /api/v1/rollouts/{rollout}/failures       members that failed, timed out or rolled back, by how their updates ended
//	GET    /api/v1/rollouts/{rollout}/events         ?limit, ?cursor, ?after; with Accept: text/event-stream server-sent events
//	POST   /api/v1/rollouts/{rollout}/start          starts a draft
//	POST   /api/v1/rollouts/{rollout}/pause          admits no more devices, and holds the updates that have not begun to install
//	POST   /api/v1/rollouts/{rollout}/resume         goes on after a pause
//	POST   /api/v1/rollouts/{rollout}/open           opens the next stage, if it opens by hand
//	POST   /api/v1/rollouts/{rollout}/stop           body: {"mode": "finish"} or {"mode": "cancel"}; ?dry_run=true only says what it would do
//	POST   /api/v1/rollouts/{rollout}/retry          body: {"outcomes": ["failed"]}; lets members try again
//	GET    /api/v1/events                            server-sent events; ?after, ?kinds, ?endpoint, ?update, ?rollout
//	GET    /api/v1/status                            version, store, sockets, limits, counters, and what does not work
//	GET    /api/v1/openapi.yaml                      all of this in OpenAPI 3.1; without credentials
//	GET    /api/v1/docs                              the same as a page; without credentials
//
// The body that starts an update is a JSON object; only endpoint and image are required:
//
//	{"endpoint": "urn:imei:490154203237518", "image": "6f1c...", "delivery": "auto", "protocol": "auto",
//	 "verify": "version", "deadline": "24h", "attempts": 5, "force": false, "profile": "",
//	 "hold": {"holder": "night-shift", "reason": "the line is running", "until": "2026-01-02T22:00:00+01:00"},
//	 "labels": {"site": "north", "ticket": "OPS-117"}}
//
// A second request for the same endpoint with the same Idempotency-Key gets the update that the
// first one made. If the two requests differ in anything but hold, or the update was deleted less
// than 24 h ago, the answer is a problem of type key-reused.
//
// Labels are names and values by which clients find updates; they do not change. An update has at
// most 16. A name has 1 to 64 of the characters A to Z, a to z, 0 to 9, and - _ . /; a value has up
// to 255 bytes without control characters. GET /api/v1/updates?label=site=north selects the updates
// with that label and value; the parameter may be repeated, and an update must then have all of
// them.
//
// Updates are listed by falling id, which is newest first. With ?outcome=failed&order=ended those
// with that outcome are listed by when they ended, the latest first.
//
// # Authorization
//
// The function passed to [New] decides about each request from its [Access]. The handler calls it
// once, before it changes anything or discloses anything of a record; to complete the Access it
// first loads an update that the request names, and reads the body of POST /api/v1/updates. For an
// event stream it calls the function again at each heartbeat; a refusal ends the stream. The body
// of POST /api/v1/rollouts may be large: the handler reads it after the call. The handler may
// report an error that follows from this page alone, such as an unknown query parameter, without
// that call.
//
// To grant rights by device, refuse each Access whose Endpoint is not one of the user's, the empty
// one too. Lists of updates and event streams then need ?endpoint=, and clients get devices one by
// one; images have no endpoint, and rollouts concern all devices. A refusal does not show whether
// an update or a rollout of that id exists.
//
// Web pages of the API's own host and of [Config.TrustedOrigins] may use the API with the
// credentials of their browser.
//
// # Resources
//
// The calls below resources are requests to the device itself, as LwM2M has them. They read
// anything, and change anything but the Firmware Update object (5, 33629) of a device with an
// active update: that is 409 and a problem of type update-active, also for a request that was
// waiting for the device when the update started. Between updates an operator may write and execute
// that object; an update that starts later reads the device first, and installs only a package that
// it can prove to be its own.
//
//	GET    .../resources/3/0/9                       a resource; 3/0 an instance, 3 an object, 3/0/7/1 a resource instance
//	GET    .../resources/3?discover=true             what there is at and below an object, an instance or a resource, and its attributes
//	GET    .../resources/3/0/13?observe=true         server-sent events: the present value, and each change
//	GET    .../resources?path=/3/0/3&path=/5/0       Read-Composite (LwM2M 1.1): up to 64 paths; it leaves out what is absent
//	PUT    .../resources/3/0/14                      {"value": "+02:00"}
//	PUT    .../resources/1/0                         {"values": [{"path": "/1/0/1", "value": 300}, ...]}; what it does not name goes
//	POST   .../resources/1/0                         {"values": [{"path": "/1/0/1", "value": 300}]}; what it does not name stays
//	PUT    .../resources/3303/0/5700?attributes=true {"attributes": {"pmin": 10, "gt": 30.5, "st": null}}, Write-Attributes; null removes one
//	PUT    .../resources                             {"values": [{"path": "/1/0/1", "value": 300}, ...]}, Write-Composite: all or none
//	POST   .../resources/3/0/4                       executes; no body, or {"arguments": "0='text',5"}
//	POST   .../resources/3303                        creates {"values": [{"path": "/3303/7/5700", "value": 21.5}]}; without a body the
//	                                                 device chooses the instance. 201, Location and {"path": "/3303/7"}
//	DELETE .../resources/3303/7                      deletes an instance, or since LwM2M 1.2 a resource instance
//
// A read answers with {"values": [...]}, a list of values such as
//
//	{"path": "/3/0/9", "type": "integer", "value": 95, "name": "Battery Level", "unit": "%"}
//
// and discover=true with {"links": [...]}, a list of paths such as
//
//	{"path": "/3/0/9", "name": "Battery Level", "type": "integer", "unit": "%", "operations": "R"}
//
// where name, unit, type and operations (R, W, E) come from the server's model of the object, in
// the version that the device has; they are absent without one. time says when the resource had the
// value, if the device says so. A body has values of the same form; it may leave out the type if a
// model has it, or if the value itself says it (a string, true or false, a number with or without a
// fraction). name, unit and time of a body do not count, so that what was read can be written. A
// body has each path once, and none below another. Changes answer 204 without a body.
//
//	type              value
//	string, corelnk   a string
//	integer           a number; a string of digits beyond 2^53-1, which many programs cannot keep in a number. Both are accepted
//	unsigned_integer  as integer
//	float             a number, or "NaN", "Infinity", "-Infinity"
//	boolean           true, false
//	opaque            a string of base64 (RFC 4648 section 4)
//	time              a string of RFC 3339 in UTC, in whole seconds; seconds since 1970 are accepted, and sent beyond the year 9999
//	objlnk            a string such as "3:0"
//	none              null: an instance or a multiple resource without content, in a PUT of what it is in, or a create
//	null              null: what removes a resource instance in a Write-Composite
//
// No value loses anything on the way: the server refuses one that the content format cannot carry.
// The formats of JSON and SenML have no NaN, no infinity and no negative zero. Without a model a
// value has the type that the content format gives it: opaque in TLV, a string in text.
//
// ?format= asks for a content format, or writes in one: text, opaque, cbor, tlv, json, senml-json,
// senml-cbor, lwm2m-cbor, senml-etch-json, senml-etch-cbor, or the media type, such as
// application/senml%2Bcbor. By default the device chooses the format of a read, and the server the
// one that the device is likeliest to understand. ?timeout= says how long to wait for the device,
// such as 90s or 5m or a number of seconds, by default 30 s, at most 10 min. Requests to one device
// go one after the other, and a device in queue mode gets them when it wakes. A client that goes
// away ends its request if it was not sent.
//
// With ?wait=false the answer is 202 at once, with a Location and such a document:
//
//	{"id": "...", "endpoint": "dev", "request": "GET /3/0/9", "created": "...", "ended": null, "status": 0, "answer": null}
//
// The request then waits for the device, by default for an hour, with ?timeout= up to 24 h. Its
// status and its answer are what the client would have got; GET of the Location shows them, for ten
// minutes after ended. A stream of GET /api/v1/events, unless it is of one update, also gets an
// event of type answer, with data such as {"request": "ID", "endpoint": "dev", "time": "...",
// "status": 200}. A restart of the server loses these requests.
//
// An observation is an event stream. Its messages are {"time": "...", "values": [...]}: the present
// values first, then those of each notification. When the observation ends, for example because
// the device registers again, the stream ends with an event of type end and a problem document; the
// client then asks again. A client that reads too slowly gets the newest 16 notifications, as more
// do not wait. Streams of the same paths share one observation, in the format that the first asked
// for, since many devices keep only one of each path; a later stream begins with the last values
// that came.
//
// A device that refuses a request makes a problem of type device-refused, with the CoAP code as
// code and the device's words in detail. Its status is that of RFC 8075 section 7, except that 500
// is this server's: 4.00, 4.02, 4.05 and others 400; 4.01 and 4.03 403; 4.04 404; 4.06 406; 4.09
// 409; 4.12 412; 4.13 413; 4.15 415; 4.29 429; 5.01 501; 5.03 503; 5.00 and others 502. The other
// failures are
//
//	404 not-found          the server knows no device of that endpoint
//	503 not-registered     the registration has ended, or the connection of the device
//	409 withdrawn          DELETE has ended the request
//	504 no-answer          the device sleeps, is busy or does not answer; it has changed nothing
//	504 delivery-unknown   a change was sent and not answered: the device may have made it
//	502 device-answer      the answer of the device is not what its content format should be
//
// # Holds
//
// A hold keeps an update from executing. It has a holder, a name of 1 to 64 bytes, and optionally a
// reason of up to 255 bytes; both without control characters. An update has at most 16 holds. It
// still transfers its package, and executes once it has no hold. A hold ends by a release that
// names its holder, or at the time until, in RFC 3339 with a zone and in the future; if until is
// absent or null, only by a release. Time on hold counts against no limit, and moves the deadline.
//
//	POST /api/v1/updates/{update}/hold               {"holder": "night-shift", "reason": "the line is running", "until": null}
//	POST /api/v1/updates/{update}/release            {"holder": "night-shift"}
//
// A second hold of the same holder replaces the first. To release a hold that does not exist is no
// error. After the answer to hold the server starts no Execute; the journal says if one was under
// way before.
//
// These calls, cancel and served answer with the update, as GET does. If the update has ended they
// answer 409 with a problem of type update-ended, except for cancel of a cancelled update.
//
// # Rollouts
//
// A rollout brings one image to many devices, in stages that stop by themselves: see package
// rollout, and doc/rollouts.md for each field. The calls are there if [Config.Rollouts] is set. The
// body that makes one is a JSON object; only image and targets are required:
//
//	{"name": "spring", "image": "6f1c...",
//	 "targets": {"select": {"labels": {"site": "north"}, "model": "sensor", "version_below": "2.0.0"}},
//	 "stages": [{"size": 1, "only": {"endpoints": ["dev"]}, "soak": "10m"}, {"size": "10%", "soak": "1h"},
//	            {"size": "100%", "manual": true}],
//	 "concurrency": 100, "rate": 60, "max_failure": 0.05, "missing_after": "30m",
//	 "window": {"days": ["mon", "tue"], "from": "22:00", "to": "04:00", "zone": "device", "fallback_zone": "Europe/Oslo",
//	            "covers": "install"},
//	 "start_at": "2026-01-02T22:00:00+01:00", "end_at": "2026-02-01T00:00:00Z", "downgrade": false,
//	 "update": {"delivery": "auto", "deadline": "24h"}, "notes": "", "start": true}
//
// targets has endpoints, a list of up to 100,000, each once, or select. update has the fields of a
// single update except endpoint, image and hold. Without start the rollout is a draft, which waits
// for the call start. With ?dry_run=true the answer says what would happen, and nothing is stored:
//
//	{"id": "01J...", "targets": 4711, "first": ["dev", ...], "stages": [1, 472, 4711],
//	 "versions": [{"version": "1.0.0", "devices": 4700, "examples": ["dev", ...]}, ...],
//	 "skipped": [{"reason": "already_current", "devices": 11, "examples": ["dev-7", ...]}],
//	 "unheld": [{"how": "push, profile default", "devices": 2, "examples": ["dev-9", ...]}],
//	 "plan": {"stages": [{"size": 1, "manual": false, "soak": "10m"}, ...], "concurrency": 100, "rate": null, ..., "end_at": "..."}}
//
// where first are the first 20 by turn, and stages the number of devices that each stage admits
// with those before it. unheld are the devices that install without Execute (5/0/14), as soon as
// they have the package, so that no hold keeps them from it: they get the package only when they
// may install. plan has stages, concurrency, rate, max_failure, missing_after, window, start_at and
// end_at with their defaults. The turns follow from the id: a request with this "id" makes the
// rollout that was shown. A rollout is
//
//	{"id": "01J...", "name": "spring", "image": "6f1c...", "state": "running", "reason": "stage 1 of 3: 1 of at most 1 admitted",
//	 "cause": "", "until": "...", "stage": 1,
//	 "stages": [{"size": 1, "ceiling": 1, "only": {"endpoints": ["dev"]}, "manual": false, "soak": "10m", "admitted": 1, "active": 1, "succeeded": 0,
//	             "failed": 0, "rolled_back": 0, "skipped": 0, "opened": "..."}, ...],
//	 "members": {"waiting": 4710, "active": 1, "succeeded": 0, "failed": 0, "rolled_back": 0, "skipped": 0},
//	 "places": {"transferring": 1, "ready": 0, "installing": 0, "away": 0, "missing": 0},
//	 "waiting": {"examined": 2000, "reasons": {"stage": 2000}},
//	 "orders": [{"order": "pause", "effect": "1 that does not install yet waits before it installs, 4710 never start until you resume"}, ...],
//	 "concurrency": 100, "rate": 60, ..., "lines": 4, "created": "...", "started": "...", "ended": null}
//
// followed by the fields that made it, with their defaults. reason is a sentence; until is when
// that ends by itself, null if it does not. stage is the number of the open stage, from 1, and 0
// before the start. The ceiling of a stage is how many devices it and the stages before it admit;
// the counters of a stage are of the devices that it admitted or skipped. waiting says why members
// wait; it counts the first 2,000 of them. orders are those that the state allows, each with a
// sentence on its effect: start, pause, resume, open, stop with its mode, retry with its outcomes,
// and delete. Lists leave out waiting, orders, only, downgrade, select, update and notes. A member
// is
//
//	{"endpoint": "dev", "state": "waiting", "reason": "busy", "detail": "01J...", "until": "...", "stage": 0, "place": "",
//	 "missing": false, "attempt": 0, "update": "", "later": null}
//
// where update is the id of its last update. The reason of a member that failed or rolled back is
// that of its update, and detail the result. detail is also the update that is in the way (busy),
// or an error (retry). later is the version that it showed after it had succeeded: {"version":
// "...", "time": "..."}.
//
//	state      of a rollout: draft, running, paused, stopping, ended
//	cause      trip: too many devices are bad; operator; stage: a stage with only has none left; end_at; done
//	state      of a member: waiting, active, succeeded, failed, rolled_back, skipped
//	place      of an active member: starting, transferring, ready, installing, away, parked
//	waiting    is the reason not_started, stage, gate, paused, window, rate, concurrency, offline, asleep, busy, retry
//	skipped    is the reason already_current, incompatible, not_comparable, removed, cancelled, unreachable
//	outcomes   of retry: failed, timed_out, rolled_back, skipped, or a reason of skipped members
//
// Failures are grouped, the largest group first:
//
//	{"devices": 4, "examined": 4, "groups": [{"outcome": "failed", "reason": "device_result", "result": "integrity_failed",
//	 "phase": "transferring", "devices": 4, "examples": [{"endpoint": "dev-7", "update": "01J..."}, ...]}]}
//
// where phase is the one in which the update ended, and examples are at most 3. The server examines
// the first 500 such members. An update that was deleted since has an empty outcome.
//
// A server that runs deletes a rollout a year after its end, or as rollout.Config.Retain says.
//
// Members are listed by endpoint; those of a ?state= in the order of their turns. PATCH changes the
// fields that its body has; null takes rate and window away. An order may have a body {"reason":
// "..."}, which the journal keeps. stop ends the rollout: members that wait are skipped. With the
// mode finish (default) updates that run go on, with cancel those that do not install yet are
// cancelled. ?dry_run=true answers {"finish": 3, "never_start": 97}. The orders, PATCH and a new
// member answer with the rollout, as GET does. One that finds the rollout so already, such as pause
// of a paused one, changes nothing, and answers so too; open and retry do not, because they would
// have done nothing. If the state does not allow an order the answer is 409 with a problem of type
// rollout-state; if rollout.Config.Allow refuses it, 403 with one of type refused, whose detail is
// its text.
//
// A line of the journal is {"seq": 4, "time": "...", "event": "...", "detail": "...",
// "endpoint": "", "actor": ""}. seq counts from 1 to lines of the rollout; ?after=N leaves out the
// first N. A stream resumes by Last-Event-ID, as that of all updates does, and
// ends with an event of type end when the rollout is deleted.
//
// Keys and holders that begin with rollout/ are those of rollouts: other requests with one get 400.
//
// # Lists
//
// A list is {"items": [...], "next": "..."}: next, if present, is the cursor of the next page.
// Cursors are opaque. Paging is stable: records created meanwhile neither repeat nor hide an item.
// A page may have fewer items than limit, or none, and a next: where a parameter selects few of
// many records, the server stops before the page is full, so that each page takes milliseconds.
// ?outcome= (empty) selects the active updates.
//
// The parameters of devices select those that fit all of them: ?label.site=oslo a label,
// ?manufacturer=, ?model=, ?hardware= and ?version= a value that the device reports, byte by byte.
// ?version_below=2.0 selects devices that run a semantic version lower than 2.0, and none whose
// version is something else. ?registered=true selects devices whose registration has not ended,
// ?state= those of one state of the fleet (below).
//
// ?contains= selects by a part of a name, in upper or lower case: of a device's endpoint, of an
// update's id or endpoint, of a rollout's id or name, of an image's id or of its name and version,
// such as "sensor 1.1.0". Of updates ?reason= selects those that ended for it, and ?whose= active
// ones that wait for the device, the operator or this server.
//
// The fleet is
//
//	{"devices": 4711, "states": {"registered": 4000, "asleep": 600, "silent": 11, "not_registered": 100},
//	 "versions": [{"version": "1.1.0", "devices": 4700}, {"version": null, "devices": 11}], "models": [{"model": "S1", "devices": 4711}]}
//
// where asleep are devices in queue mode that do not listen now, silent those that have left the
// last request unanswered or cannot be reached, registered the others that are registered, and null
// stands for devices whose version or model is not known. With more than 1000 of either,
// more_versions or more_models says how many devices have one that is not listed.
//
// Counts are a list without pages, of items such as {"image": "6f1c...", "outcome": "succeeded",
// "updates": 4711}, with the outcome "" for active updates. They count the updates that the server
// has, not those that were deleted.
//
// A record that the server's store cannot read appears in each list that it may belong to, as an
// item {"id": "...", "damaged": "why"}, with endpoint instead of id for a device, and seq for a
// line of a journal. A request for that record alone gets 500 and a problem of type damaged. The
// event stream leaves out damaged lines. A damaged update may block new updates of its endpoint:
// DELETE removes it, with its journal.
//
// # Answers
//
// Times are RFC 3339 in UTC, to the microsecond. An unknown value is "" or 0, unless this page says
// that it is null or absent. An image is
//
//	{"id": "6f1c...", "name": "sensor", "version": "1.1.0", "size": 262144, "sha256": "a3...", "created": "...",
//	 "compatible": {"model": "S1"}}
//
// where compatible says what a device must report of itself (3/0/0, 3/0/1, 3/0/18) to get it; {}
// fits all. An update to an image that is known not to be made for its device is 400, and one that
// the device's answers show later ends with the reason incompatible, both unless force is true.
//
// A device is
//
//	{"endpoint": "dev", "address": "192.0.2.7:5683", "transport": "coap", "lwm2m_version": "1.1", "lifetime": 300,
//	 "queue_mode": false, "online": true, "state": "registered", "registered": "...", "last_seen": "...",
//	 "attributes": {"site": "north"}, "labels": {"site": "oslo"},
//	 "facts": {"manufacturer": "Acme", "model": "S1", "hardware": null, "zone": "Europe/Oslo", "offset": "+01:00", "read": "..."},
//	 "firmware": {"state": "idle", "result": {"code": 0, "name": "default"}, "version": "1.0.0",
//	              "protocols": ["coap", "http"], "delivery": "both", "holds_package": null, "read": "..."}}
//
// where online says that the device is registered and, as far as the server knows, reachable: it is
// false once the device's connection has ended. state is that of the fleet: registered, asleep,
// silent or not_registered. attributes are the further parameters of its Register, which LwM2M does
// not define. labels are what the operators said of the device, of which PUT .../labels replaces
// all: at most 32, with names of a to z, 0 to 9 and -, and values of up to 63 bytes. Only DELETE of
// the device removes them. facts are what the device says of itself in Object 3, null as in
// firmware. lifetime is in seconds, 0 if unlimited. registered and last_seen are absent if the
// device never registered; read is the time when the server read the firmware's values from the
// device, absent if it never did. A single device has objects, those of its registration: {"id": 3,
// "name": "Device", "version": "1.1", "instances": [0]}. An unknown value of the firmware is null:
// the server has not read it, or the device lacks the resource, refuses to show it, or leaves it
// empty. holds_package is the SHA-256 of the package that the device provably holds and has not
// installed. A firmware that is not the device's main one has a field component. An update is
//
//	{"id": "01J...", "endpoint": "dev", "image": "6f1c...", "labels": {}, "version": "1.1.0", "old_version": "1.0.0",
//	 "phase": "transferring", "state": "downloading", "result": {"code": 0, "name": "default"}, "reported_result": null,
//	 "outcome": "", "reason": "", "may_still": null, "later": null, "progress": {"bytes": 4096, "total": 262144},
//	 "waiting_for": {"reason": "download to finish", "whose": "device", "until": "..."},
//	 "holds": [{"holder": "night-shift", "reason": "the line is running", "since": "...", "until": null}],
//	 "attempt": 1, "delivery": "pull", "protocol": "https", "deadline": "...",
//	 "created": "...", "updated": "...", "ended": null, "journal": [{"time": "...", "event": "...", "detail": "..."}]}
//
// The server deletes an update a while after it has ended, by default after a year, or when the
// device has had 20 later ones (firmware.ManagerConfig.Retain). A delete of what the program that
// runs the server still needs gets 409 and a problem of type kept.
//
// Only a single update has its journal; lists leave it out. While outcome is "" the update is
// active: result is default and ended is null. Afterwards state is idle, result is not default,
// waiting_for is null and holds is empty. reported_result is the last one that the device reported,
// or null.
//
// attempt counts the transfers. delivery and protocol are those of the current or last one, ""
// before the first; protocol is "" for a push. waiting_for says what the update waits for, and who
// is to act; by the time until the wait ends or the server checks again. At deadline the server
// gives up the update. may_still says what the device may still do after its update was cancelled
// or timed out; the server reads the device once more, so the answer may become more certain within
// a minute. It is null for other updates. A single update that is active has if_cancelled, which
// says what a cancel would come to now: {"may_still": "none", "effect": "the device installs
// nothing of this update, and runs on with what it has"}. later is {"version": "...", "time":
// "..."} if the device of an update that succeeded showed another version after that, as rollouts
// find at the end of a soak; the outcome stays.
//
//	phase      waiting, preparing, transferring, transferred, executing, restarting, verifying, ended
//	state      idle, downloading, downloaded, updating
//	outcome    succeeded, rolled_back, failed, cancelled, timed_out
//	result     default, success, no_storage, out_of_mem, connection_lost, integrity_failed, unsup_fw, invalid_uri,
//	           update_failed, unsup_proto, cancelled, deferred, conflicting_state, dependency_error; the number as text
//	           for others
//	reason     version, result, same_version, already_running; old_version; version_mismatch, device_result, attempts, refused,
//	           no_delivery, not_served, no_firmware_object, bad_state, cannot_prove, image_damaged, incompatible; operator; phase_limit,
//	           deadline
//	may_still  none: the device installs nothing of this update; install: it installs, or has agreed to; unknown
//	whose      device; operator: a hold; server: a queue or a pause of this server
//
// # Events
//
// Each line of the journal is one event with its sequence number as id, and data such as the
// following. The Event constants of package firmware name the events; doc/events.md lists them.
// firmware.Event has the same JSON.
//
//	{"seq": 17, "update": "01J...", "endpoint": "dev", "time": "...", "event": "execute", "detail": "...", "phase": "executing",
//	 "state": "downloaded", "result": {"code": 0, "name": "default"}, "outcome": "",
//	 "progress": {"bytes": 4096, "total": 4096}}
//
// The stream begins with an event of type begin, which says from where on it goes, and has that
// position as its id:
//
//	{"after": 17, "last": 340, "deleted": 0, "at_end": false, "heartbeat_seconds": 15}
//
// The lines after that number follow; at_end says that there are none yet. A client that reconnects
// with Last-Event-ID (or ?after=ID) gets each event that it missed, at least once; without either
// the stream starts with the oldest line in the journal, and with ?after=end at its end. If lines
// after that id were deleted, next comes an event of type gap and data such as {"after": 17,
// "deleted": 4711}: the client may have missed lines up to number 4711. An id that the journal has
// not reached, as after a backup was restored, gets 409 and a problem of type position. Progress
// events come in between and have no id. Under load, events come in batches, five times a second.
// At each heartbeat, by default every 15 seconds, the server sends a comment; it drops a client
// that takes longer than that to accept a batch. A client that has a quarter of all streams open
// gets 429; if all streams are open, every client gets 503.
//
// ?endpoint= selects events of one device, ?update= those of one update, and ?rollout= those of one
// rollout and of the updates that it has made. ?kinds= says what the stream has, by default update;
// several are separated by commas. The other kinds come about once a second, have no id, and are
// not repeated after a reconnection; instead the stream begins with how things are.
//
//	kind      type of the events, and their data                                                  also needs
//	update    message, answer: as above
//	device    device: {"time": "...", "endpoint": "dev", "change": "registered"}; or gone, asleep,
//	          awake. At most 100 in a second, then {"endpoint": "", "change": "more", "more": 812}  devices:read
//	rollout   rollout: {"id": "01J...", "deleted": false, "rollout": {...}} as GET rollouts has it;
//	          at first each one that has not ended                                                 rollouts:read
//	counts    counts: {"time": "...", "devices": {"all": 840, "registered": 700, "asleep": 90,
//	          "silent": 10, "not_registered": 40}, "updates": {"active": 12, "failed": 3, ...},
//	          "rollouts": {"running": 1, ...}}; at first, and when they have changed               devices:read, updates:read, rollouts:read
//
// # Traces
//
// POST .../trace begins a trace of a device's CoAP messages, which ends by itself: after seconds
// (60; at most 600), with so many messages (500; at most 5000), or bytes of memory (1 MiB; at most
// 8 MiB). The device need not be registered: a Register of its name begins with it. Four devices
// are traced at once at most; further ones get 503, and a device that is traced already 409.
//
// GET .../trace answers with {"endpoint", "started", "until", "ended", "end_reason", "count",
// "messages": [...]}, and with Accept: text/event-stream sends each message as an event whose id is
// its number, and at last an event of type end with the trace without its messages. An ended trace
// can be read for ten minutes, or until the device has another one. A message is such as
//
//	{"n": 3, "time": "...", "direction": "out", "kind": "message", "transport": "coap", "remote": "10.0.0.2:5683", "local": "10.0.0.1:5683",
//	 "type": "CON", "code": "0.01", "name": "GET", "message_id": 7, "token": "63af...", "options": [{"name": "Uri-Path", "value": "3"}],
//	 "bytes": 21, "format": "", "payload": "", "cut": false, "note": ""}
//
// kind is message, retransmission, duplicate or dropped; or moved, handshake or closed, which are
// no messages. [lwm2m.TraceEntry] says what they mean, and which secrets are not shown.
//
// # Status
//
// GET /api/v1/status says how the server is: version (program, library, go), started,
// uptime_seconds, ready, the store (kind, format, bytes, last_commit and its age, since when
// commits fail, its lease), sockets (door, address, protocol, how many peers or connections are
// open, and how many may be), queues (what occupies places: length and limit), counters since the
// start, updates by outcome, and rollouts that have not ended, by state. Each item of queues and
// counters says in text what it counts. What is not known is null.
//
// degraded is a list of what does not work as it should:
//
//	{"what": "store", "why": "The store does not answer.", "since": "...", "todo": "Look at the database or at the disk. ..."}
//
// ready is false if one of these keeps the server from serving; see [Health]. What is found out
// serves all requests of a second.
//
// # Errors
//
// Each error is a problem document of RFC 9457 (application/problem+json): type, title, status,
// detail, and for some types field (the wrong one of the request), update (the id of the update in
// question) or code (the CoAP code of a device). The handler refuses requests from pages of another
// origin, state-changing calls without the right Content-Type or with a Content-Encoding, and
// unknown query parameters. It refuses bodies with unknown fields, with names in another case, with
// a name twice in one object, and with null in a list or a map.
//
// A server whose disk is full answers 507 with a problem of type disk-full. The client may repeat
// the request.
//
// # Limits
//
//	body                      64 KiB of JSON within 30 s; the endpoints of a rollout 32 MiB within 2 min, 2 over 64 KiB at once: 503; an image up to Config.MaxImage, and 30 s without a byte of it: 408
//	a body not read           10 s, at most 256 KiB
//	answer                    30 s without room for 4 KiB
//	authorization             10 s, and 1000 at once: 503
//	path                      id 64 bytes, endpoint 255
//	query                     parameters that the call knows, once each, except label and path; name, version 255 bytes; cursor 450; limit 1 to 1000
//	Idempotency-Key           255 printable ASCII characters
//	requests to devices       Config.MaxRequests, a quarter of them for one client, 16 for one device; so many answers, 16 MiB
//	event streams             Config.MaxStreams, with those of observations (16 of one device), a quarter of them for one client; Config.Heartbeat to accept a line
//	holds                     16 of an update, holder 64 bytes, reason 255
//	rollouts                  100,000 endpoints of a body, 16 stages, concurrency 100,000, rate 0.0001 to 1,000,000, soak and missing_after 10 years
//	labels                    16 of an update, name 64 bytes, value 255
//
// The server limits headers, connections and idle connections: see [firmware.NewHTTPServer].
package httpapi
