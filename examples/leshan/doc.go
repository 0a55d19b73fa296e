// Package leshan lets an [lwm2m.Server] stand in for the Leshan server of flownexus, a Django
// backend: it posts registrations and values to Django in the Leshan data format, and answers the
// requests that Django sends to Leshan. doc/flownexus.md says how to replace Leshan by
// examples/server, which has this package behind its flags -leshan-sink and -leshan-api.
//
//	bridge, err := leshan.New(srv, leshan.Config{Sink: "http://127.0.0.1:8000", State: "leshan.log"})
//	...
//	group.Go(func() error { return bridge.Run(ctx) })                       // posts to Django
//	group.Go(func() error { return http.ListenAndServe("127.0.0.1:8080", bridge) }) // Django's requests
//
// Django ends an update by what it hears first, so the order and the choice of what it hears
// matter more than with other backends. The bridge keeps to ten rules:
//
//  1. It sends the posts of one endpoint one after the other, each after the answer to the one
//     before.
//  2. It tells State 2 (Downloaded) once for each download, since Django sends an Execute for each.
//  3. It tells the firmware version 3/0/3 only if the version has changed, or an Execute went
//     through since: Django takes any version for the verdict on an active update.
//  4. After the reads of each Register it posts a registration update, on which Django sends what
//     it has queued.
//  5. It tells the Result 5/0/5 after the version, and only if it differs from the last one.
//  6. It keeps a request of Django open until the device answers, and joins an equal write that is
//     under way or took effect.
//  7. It answers with JSON and status 200 whatever the device answered.
//  8. It repeats a post only if the connection could not be made. What became of a post that was
//     begun and not answered is unknown: the bridge logs that, and does not repeat it.
//  9. It posts only resources that Django knows, with values that Django accepts.
//  10. It keeps its state in a file, and expects the server to keep registrations. Django and the
//     bridge do not authenticate each other, so both are on loopback or in a private network.
package leshan
