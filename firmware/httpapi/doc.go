// Package httpapi is the operators' API of a [firmware.Manager]: images, devices, updates and their
// events, as JSON over HTTP. It is one [http.Handler], to be mounted in an existing server.
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
//	POST   /api/v1/images?version=V&name=N           body: application/octet-stream; answers with the image, also if it exists already
//	GET    /api/v1/images                            ?limit, ?cursor
//	GET    /api/v1/images/{image}
//	DELETE /api/v1/images/{image}                    409 while an active update needs it, or the program that runs the server
//	GET    /api/v1/devices                           ?limit, ?cursor
//	GET    /api/v1/devices/{endpoint}                the endpoint is percent-encoded
//	DELETE /api/v1/devices/{endpoint}                deletes its record, also that it used credentials; 409 while it has an active update
//	GET    /api/v1/devices/{endpoint}/resources/...  501: not implemented yet; PUT and POST too
//	POST   /api/v1/updates                           body: application/json; header Idempotency-Key
//	GET    /api/v1/updates                           ?limit, ?cursor, ?endpoint, ?image, ?outcome, ?state, ?label
//	GET    /api/v1/counts                            how many updates there are, by image and outcome; ?image
//	GET    /api/v1/updates/{update}                  with its journal
//	DELETE /api/v1/updates/{update}                  with its journal; 409 while it is active, unless its record is damaged
//	POST   /api/v1/updates/{update}/cancel           ends it; to cancel twice is no error
//	POST   /api/v1/updates/{update}/hold             body: application/json; keeps the update from executing
//	POST   /api/v1/updates/{update}/release          body: application/json; ends the hold of one holder
//	POST   /api/v1/updates/{update}/served           the device has fetched the whole package from another server
//	GET    /api/v1/events                            server-sent events; ?after, ?endpoint, ?update
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
// # Authorization
//
// The function passed to [New] decides about each request from its [Access]. The handler calls it
// once, before it changes anything or discloses anything of a record; to complete the Access it
// first loads an update that the request names, and reads the body of POST /api/v1/updates. For an
// event stream it calls the function again at each heartbeat; a refusal ends the stream. The
// handler may report an error that follows from this page alone, such as an unknown query
// parameter, without that call.
//
// To grant rights by device, refuse each Access whose Endpoint is not one of the user's, the empty
// one too. Lists of updates and event streams then need ?endpoint=, and clients get devices one by
// one; images have no endpoint. A refusal does not show whether an update of that id exists.
//
// Web pages of the API's own host and of [Config.TrustedOrigins] may use the API with the
// credentials of their browser.
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
// # Lists
//
// A list is {"items": [...], "next": "..."}: next, if present, is the cursor of the next page.
// Cursors are opaque. Paging is stable: records created meanwhile neither repeat nor hide an item.
// A page may have fewer items than limit, or none, and a next: where a parameter selects few of
// many records, the server stops before the page is full, so that each page takes milliseconds.
// ?outcome= (empty) selects the active updates.
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
//	{"id": "6f1c...", "name": "sensor", "version": "1.1.0", "size": 262144, "sha256": "a3...", "created": "..."}
//
// and a device is
//
//	{"endpoint": "dev", "address": "192.0.2.7:5683", "transport": "coap", "lwm2m_version": "1.1", "lifetime": 300,
//	 "queue_mode": false, "online": true, "registered": "...", "last_seen": "...",
//	 "attributes": {"site": "north"},
//	 "firmware": {"state": "idle", "result": {"code": 0, "name": "default"}, "version": "1.0.0",
//	              "protocols": ["coap", "http"], "delivery": "both", "holds_package": null, "read": "..."}}
//
// where online says that the device is registered and, as far as the server knows, reachable: it is
// false once the device's connection has ended. attributes are the further parameters of its
// Register, which LwM2M does not define. lifetime is in seconds, 0 if unlimited. registered
// and last_seen are absent if the device never registered; read is the time when the server read
// the firmware's values from the device, absent if it never did. An unknown value of the firmware
// is null: the server has not read it, or the device lacks the resource, refuses to show it, or
// leaves it empty. holds_package is the SHA-256 of the package that the device provably holds and
// has not installed. A firmware that is not the device's main one has a field component. An update
// is
//
//	{"id": "01J...", "endpoint": "dev", "image": "6f1c...", "labels": {}, "version": "1.1.0", "old_version": "1.0.0",
//	 "phase": "transferring", "state": "downloading", "result": {"code": 0, "name": "default"}, "reported_result": null,
//	 "outcome": "", "reason": "", "may_still": null, "progress": {"bytes": 4096, "total": 262144},
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
// a minute. It is null for other updates.
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
// A client that reconnects with Last-Event-ID (or ?after=ID) gets each event that it missed, at
// least once; without either the stream starts with the oldest line in the journal. If lines after
// that id were deleted, the stream begins with an event of type gap and data such as {"after": 17,
// "deleted": 4711}: the client may have missed lines up to number 4711. An id that the journal has
// not reached, as after a backup was restored, gets 409 and a problem of type position. Progress
// events come in between and have no id. Under load, events come in batches, five times a second.
// At each heartbeat, by default every 15 seconds, the server sends a comment; it drops a client
// that takes longer than that to accept a batch. A client that has a quarter of all streams open
// gets 429; if all streams are open, every client gets 503.
//
// # Errors
//
// Each error is a problem document of RFC 9457 (application/problem+json): type, title, status,
// detail, and for some types field (the wrong one of the request) or update (the id of the update
// in question). The handler refuses requests from pages of another origin, state-changing calls
// without the right Content-Type, unknown fields, and unknown query parameters.
//
// A server whose disk is full answers 507 with a problem of type disk-full. The client may repeat
// the request.
//
// # Limits
//
//	body                      64 KiB of JSON within 30 s; an image up to Config.MaxImage, and 30 s without a byte of it: 408
//	a body not read           10 s, at most 256 KiB
//	answer                    30 s without room for 4 KiB
//	authorization             10 s, and 1000 at once: 503
//	path                      id 64 bytes, endpoint 255
//	query                     parameters that the call knows, once each, except label; name, version 255 bytes; cursor 355; limit 1 to 1000
//	Idempotency-Key           255 printable ASCII characters
//	event streams             Config.MaxStreams, a quarter of them for one client; Config.Heartbeat to accept a line
//	holds                     16 of an update, holder 64 bytes, reason 255
//	labels                    16 of an update, name 64 bytes, value 255
//
// The server limits headers, connections and idle connections: see [firmware.NewHTTPServer].
package httpapi
