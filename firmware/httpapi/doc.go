// Package httpapi is the operators' door to a [firmware.Manager]: images, devices, updates and
// their events, as JSON over HTTP, in one [http.Handler] that mounts into a server that exists
// already.
//
//	api, err := httpapi.New(manager, staffOnly, httpapi.Config{})
//	...
//	http.Handle("/ota/", api)
//
// # Calls
//
// Every path starts with /api/v1; what stands before the first /api/v1 is the place where the
// handler is mounted, and is the caller's business.
//
//	POST   /api/v1/images?version=V&name=N           body: application/octet-stream; the image, or the same one if it is known
//	GET    /api/v1/images                            ?limit, ?cursor
//	GET    /api/v1/images/{image}
//	DELETE /api/v1/images/{image}                    409 while an active update needs it
//	GET    /api/v1/devices                           ?limit, ?cursor
//	GET    /api/v1/devices/{endpoint}                the endpoint is percent-encoded
//	DELETE /api/v1/devices/{endpoint}                forgets it, also that it used credentials; 409 while it has an active update
//	GET    /api/v1/devices/{endpoint}/resources/...  501: not there yet; PUT and POST too
//	POST   /api/v1/updates                           body: application/json; header Idempotency-Key
//	GET    /api/v1/updates                           ?limit, ?cursor, ?endpoint, ?image, ?outcome, ?state, ?label
//	GET    /api/v1/updates/{update}                  with its journal
//	DELETE /api/v1/updates/{update}                  with its journal; 409 while it is active, unless its record is damaged
//	POST   /api/v1/updates/{update}/cancel           ends it; cancelling twice is no error
//	POST   /api/v1/updates/{update}/hold             body: application/json; keeps it from executing
//	POST   /api/v1/updates/{update}/release          body: application/json; ends the hold of one holder
//	POST   /api/v1/updates/{update}/served           the device has fetched the whole package from a server of the caller's own
//	GET    /api/v1/events                            server-sent events; ?after, ?endpoint, ?update
//
// An update is asked for with a JSON object; only endpoint and image have to be there:
//
//	{"endpoint": "urn:imei:490154203237518", "image": "6f1c...", "delivery": "auto", "protocol": "auto",
//	 "verify": "version", "deadline": "24h", "attempts": 5, "force": false, "profile": "",
//	 "hold": {"holder": "night-shift", "reason": "the line is running", "until": "2026-01-02T22:00:00+01:00"},
//	 "labels": {"site": "north", "ticket": "OPS-117"}}
//
// A second request for the same endpoint with the same Idempotency-Key is answered with the update
// that the first one made. If it asks for something else it is a problem of type key-reused; hold
// is not compared.
//
// Labels are names and values by which the caller finds its updates again; they do not change. An
// update has at most 16. A name has 1 to 64 of the characters A to Z, a to z, 0 to 9, and - _ . /;
// a value has up to 255 bytes without control characters. GET /api/v1/updates?label=site=north
// selects the updates with that label and value; the parameter may be repeated, and an update must
// then have all of them.
//
// # Who may what
//
// The function that [New] is given decides about each request by its [Access]. It is asked once,
// before anything is done and before anything of a record is told: an update is loaded first, so
// that it knows whose it is, and a POST of an update is read first. For an event stream it is asked
// again with each sign of life: a refusal ends the stream. What can be told wrong of a request by
// this page alone, an unknown field for example, it is told before.
//
// For a server with rights by device: refuse each Access whose Endpoint is not one of the asker's,
// the empty one too. Lists of updates and event streams then need ?endpoint=, and devices are asked
// for one by one; images have no endpoint. A refusal is the same whether there is an update of that
// id or not.
//
// Pages of the API's own host may use it, with the credentials of their browser, and those of
// [Config.TrustedOrigins].
//
// # Holds
//
// A hold keeps an update from executing. It has a holder, a name of 1 to 64 bytes, and if wanted a
// reason of up to 255; both without control characters. An update has at most 16. It transfers its
// package all the same, and executes once no hold is left: a hold ends by a release that names its
// holder, or at the time until, which is RFC 3339 with a zone and in the future; without it, or
// with null, it ends only by a release. Time on hold counts against no limit, and moves the
// deadline.
//
//	POST /api/v1/updates/{update}/hold               {"holder": "night-shift", "reason": "the line is running", "until": null}
//	POST /api/v1/updates/{update}/release            {"holder": "night-shift"}
//
// A second hold of the same holder replaces the first. A release of what is not held is no error.
// Once hold is answered, no Execute is sent that was not on its way before: the journal says if one
// was.
//
// These calls, cancel and served answer with the update, as GET does. An update that has ended is a
// problem of type update-ended, with 409; except for cancel where it was cancelled.
//
// # Lists
//
// Lists come as {"items": [...], "next": "..."}: next, if it is there, is the cursor of the page
// that follows. A cursor is opaque; paging is stable, so what is created meanwhile neither repeats
// nor hides an item. ?outcome= (empty) selects the active updates.
//
// A record that the server's store cannot read comes in its place in each list that it may belong
// to, as an item {"id": "...", "damaged": "why"}, with endpoint instead of id for a device, and seq
// for a line of a journal. Asked for alone it is answered with 500 and a problem of type damaged.
// The event stream leaves such lines out. A damaged update may keep its endpoint from being
// updated: DELETE removes it, with its journal.
//
// # Answers
//
// Times are RFC 3339 in UTC, to the microsecond. What is not known is "" or 0, unless it says null
// or may be absent here. An image is
//
//	{"id": "6f1c...", "name": "sensor", "version": "1.1.0", "size": 262144, "sha256": "a3...", "created": "..."}
//
// and a device is
//
//	{"endpoint": "dev", "address": "192.0.2.7:5683", "transport": "coap", "lwm2m_version": "1.1", "lifetime": 300,
//	 "queue_mode": false, "online": true, "registered": "...", "last_seen": "...",
//	 "firmware": {"state": "idle", "result": {"code": 0, "name": "default"}, "version": "1.0.0",
//	              "protocols": ["coap", "http"], "delivery": "both", "holds_package": null, "read": "..."}}
//
// where online says that it is registered and, as far as is known, can be reached: not once its
// connection has ended. lifetime is in seconds, 0 for one without end; registered and last_seen are
// absent for a device that never was, and read says when the firmware's part was read from the
// device, and is absent if it never was. What is not known of the firmware is null: nobody has read
// it, or the device has no such resource, refuses it, or says nothing there. holds_package is the
// SHA-256 of the package that the device holds and has not installed, as far as there is proof. A
// firmware that is not the device's main one has a field component. An update is
//
//	{"id": "01J...", "endpoint": "dev", "image": "6f1c...", "labels": {}, "version": "1.1.0", "old_version": "1.0.0",
//	 "phase": "transferring", "state": "downloading", "result": {"code": 0, "name": "default"}, "reported_result": null,
//	 "outcome": "", "reason": "", "may_still": null, "progress": {"bytes": 4096, "total": 262144},
//	 "waiting_for": {"reason": "download to finish", "whose": "device", "until": "..."},
//	 "holds": [{"holder": "night-shift", "reason": "the line is running", "since": "...", "until": null}],
//	 "attempt": 1, "delivery": "pull", "protocol": "https", "deadline": "...",
//	 "created": "...", "updated": "...", "ended": null, "journal": [{"time": "...", "event": "...", "detail": "..."}]}
//
// The journal is with single updates only, not in lists. While outcome is "" the update is active:
// result is default and ended null. Afterwards state is idle, result is not default, waiting_for is
// null and holds is empty. reported_result is the device's own last one, null if it reported none.
//
// attempt counts the transfers. delivery and protocol are those of the current or last one, ""
// before the first, and protocol is "" for a push. waiting_for says whose time passes, and until is
// when something happens at the latest: the wait ends, or is looked at again. deadline is when the
// whole update is given up. may_still says what can follow on the device of an update that was
// cancelled or timed out, as far as is known; it may become more certain within a minute, when the
// device was looked at once more. It is null for other updates.
//
//	phase      waiting, preparing, transferring, transferred, executing, restarting, verifying, ended
//	state      idle, downloading, downloaded, updating
//	outcome    succeeded, rolled_back, failed, cancelled, timed_out
//	result     default, success, no_storage, out_of_mem, connection_lost, integrity_failed, unsup_fw, invalid_uri,
//	           update_failed, unsup_proto, cancelled, deferred, conflicting_state, dependency_error; the number as text
//	           for others
//	reason     version, result, same_version, already_running; old_version; version_mismatch, device_result, attempts, refused,
//	           no_delivery, not_served, no_firmware_object, bad_state, cannot_prove, image_damaged; operator; phase_limit,
//	           deadline
//	may_still  none: it installs nothing of this update; install: it was seen to install, or has agreed to; unknown
//	whose      device; operator: a hold; server: a queue or a pause of this server
//
// # Events
//
// Each line of the journal is one event with its sequence number as id, and data such as the
// following. The Event constants of package firmware name the events; doc/events.md lists them.
//
//	{"seq": 17, "update": "01J...", "endpoint": "dev", "time": "...", "event": "execute", "detail": "...", "phase": "executing",
//	 "state": "downloaded", "result": {"code": 0, "name": "default"}, "outcome": "",
//	 "progress": {"bytes": 4096, "total": 4096}}
//
// A reader that comes back with Last-Event-ID (or ?after=ID) gets what it missed, at least once;
// without either the stream starts with the oldest line that is kept. Progress comes in between, as
// events without an id. A comment is sent every 15 seconds, and a reader that takes longer than
// that to accept a line is dropped. A client that has a quarter of all streams open gets 429, and
// 503 if all are.
//
// # Errors
//
// Each error is a problem document of RFC 9457 (application/problem+json): type, title, status,
// detail, and where it helps field (of the request) or update (the id of the active one). Requests
// from pages of another origin are refused, and so is a state-changing call without the right
// Content-Type, an unknown field, and an unknown query parameter.
//
// A server whose disk is full answers 507, and a problem of type disk-full. The request may be made
// again.
//
// # Limits
//
//	body                      64 KiB of JSON within 30 s; an image up to Config.MaxImage, and 30 s without a byte of it: 408
//	a body that is not wanted 10 s, at most 256 KiB
//	answer                    30 s without room for 4 KiB
//	authorization             10 s, and 1000 at once: 503
//	path                      id 64 bytes, endpoint 255
//	query                     parameters that the call knows, once each but for label; name, version 255 bytes; cursor 355; limit 1 to 1000
//	Idempotency-Key           255 printable ASCII characters
//	event streams             Config.MaxStreams, a quarter of them for one client; a line is taken within Config.Heartbeat
//	holds                     16 of an update, holder 64 bytes, reason 255
//	labels                    16 of an update, name 64 bytes, value 255
//
// Headers, connections and idle ones are the server's to limit, see [firmware.NewHTTPServer].
package httpapi
