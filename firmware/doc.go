// Package firmware is the server's end of firmware updates over LwM2M.
//
// A [Repository] keeps images: versions of firmware, each one a file and a record. A [Delivery]
// serves them to devices that download. A [Manager] takes requests ("this image on that endpoint"),
// runs each update over an lwm2m.Server until it has an outcome, and reports events. Its knowledge
// is in a store.Store before any effect of it can be seen, so that a server that was killed goes on
// where it was.
//
//	db, err := bolt.Open("ota.db", bolt.Config{})
//	images, err := firmware.OpenRepository("images", db, firmware.RepositoryConfig{})
//	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
//	delivery, err := firmware.NewDelivery(images, firmware.DeliveryConfig{BaseURL: "http://127.0.0.1:8081"})
//	srv.HandleFunc("/", delivery.ServeCoAP)
//	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Delivery: delivery})
//	go srv.ListenAndServe(ctx, "coap://127.0.0.1:5683")
//	web := firmware.NewHTTPServer(delivery)
//	web.Addr = "127.0.0.1:8081"
//	go firmware.RunHTTPServer(ctx, web, nil)
//	go mgr.Run(ctx)
//	...
//	update, err := mgr.Start(ctx, firmware.Request{Endpoint: "urn:imei:490154203237518", Image: img.ID})
//
// What happens next is decided by package fsm, which compares what is wanted with what the device
// was read to be; this package reads, writes, executes and remembers on its behalf.
//
// # Logs
//
// A log line has a constant message and these fields, with the same names wherever they occur, also
// in package lwm2m: endpoint; update and image, which are ids; version; outcome, reason and result,
// as in the HTTP API; error. Others are address, identity and transport of a device, protocol of a
// download, function of a function of the program that panicked or hangs, seq of a journal line,
// and took, a duration. The start and the end of an update are lines of level info.
//
// The device's end of an update is package firmware/device, which neither needs this package nor is
// needed by it.
package firmware
