// Package backend is a whole update server made of the library's parts: the LwM2M server, the
// manager, the repository, and the listeners for operators and for devices that download by HTTP.
// examples/server gives it flags, examples/quickstart runs it on free ports.
//
//	b, err := backend.Listen(ctx, backend.Config{Store: db, Images: "images", CoAP: "127.0.0.1:5683", HTTP: "127.0.0.1:8080"})
//	...
//	log.Print(b.URL(backend.HTTP)) // what it really listens on
//	err = b.Run(ctx)               // until ctx ends
package backend
