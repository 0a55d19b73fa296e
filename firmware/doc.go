// Package firmware is the server's end of firmware updates over LwM2M.
//
// A [Repository] holds images: versions of firmware, each one a file and a record. A [Manager] takes requests ("this image
// on that endpoint"), drives each update over an lwm2m.Server until it has an outcome, and tells what happens as it
// happens. All that it knows is in a store.Store before anybody can see an effect of it, so that a server that was killed
// goes on where it was.
//
//	db, err := bolt.Open("ota.db")
//	images, err := firmware.OpenRepository("images", db, firmware.RepositoryConfig{})
//	srv := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
//	mgr := firmware.NewManager(srv, db, images, firmware.ManagerConfig{BaseURL: "http://127.0.0.1:8081/fw/"})
//	go srv.ListenAndServe(ctx, "coap://127.0.0.1:5683")
//	web := firmware.NewHTTPServer(images.Handler())
//	web.Addr = "127.0.0.1:8081"
//	go web.ListenAndServe()
//	go mgr.Run(ctx)
//	...
//	update, err := mgr.Start(ctx, firmware.Request{Endpoint: "urn:imei:490154203237518", Image: img.ID})
//
// What happens next is decided by package fsm, which compares what is wanted with what the device was read to be; this
// package reads, writes, executes and remembers on its behalf.
//
// The device's end of an update is package firmware/device, which neither needs this package nor is needed by it.
package firmware
