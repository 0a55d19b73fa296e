// Package lwm2m speaks LwM2M 1.0, 1.1 and 1.2: a [Server] that keeps the registrations of devices and manages them, and a
// [Client] for the device's side. It needs nothing but UDP or TCP sockets, or what looks like one.
//
// # Server
//
// A server starts with ListenAndServe, which may be called for several addresses. Devices register by themselves; Watch tells
// of it, and from then on they can be asked:
//
//	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Credentials: lwm2m.PSKFile("devices.psk")})
//	srv.Watch(func(e lwm2m.RegistrationEvent) {
//		if e.Kind == lwm2m.EventRegistered {
//			entries, err := srv.Read(ctx, e.Registration.Endpoint, lwm2m.NewPath(3, 0, 3))
//			...
//		}
//	})
//	err := srv.ListenAndServe(ctx, "coaps://:5684")
//
// Devices are named by their endpoint. Where they are, in which version, format and block size they speak, and whether they
// sleep, is the server's business: a request to a device that sleeps waits until it wakes, at most as long as its context
// lives. What failed says how: an answer with an error code is a [*ResponseError], and a request that may have been carried
// out although no answer came is [ErrDeliveryUnknown].
//
// Methods such as Read hold the goroutine that calls them. [Server.Go] does not, for programs that have something to ask of
// many devices, of which some sleep for days: it takes a [Request] and calls a function with the [Answer].
//
//	call := srv.Go(lwm2m.Request{
//		Endpoint: endpoint, Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(5, 0, 2),
//	}, func(a lwm2m.Answer) { results <- a.Err })
//	...
//	call.Cancel(errTooLate)
//
// [Server.Before] is for programs that have to write down what they do before it may have happened.
//
// A device costs a record of some hundred bytes, no goroutine and no timer of its own; a request that waits for it to wake
// costs less than a kilobyte. Registrations survive a restart of the server in a [RegistrationStore].
//
// What devices can make a server hold is bounded, by fields of [ServerConfig] where one is named:
//
//	what                              bound                                      beyond it
//	endpoints                         4 million (MaxRegistrations)               5.03
//	what they say of themselves       1 GiB together (MaxRegistrationBytes)      5.03
//	  of both, without credentials    three quarters, if others have them        5.03
//	  list of objects                 4 KiB (MaxLinks), 4096 links               4.13, 4.00
//	  endpoint name, identity         255, 1024 bytes                            4.00, 4.03
//	  binding, sms, profile           16, 64, 64 bytes                           4.00
//	lifetime                          1 s to 10 years (MinLifetime, MaxLifetime) 4.00
//	  without one (lt=0)              30 days of silence (MaxSilence)            it ends
//	other bodies in memory            64 KiB each (MaxMessage)                   4.13
//	events of one endpoint that wait  64                                         5.03
//	calls of Credentials              64 at once, 5 s each                       as if nobody could tell
//
// Ended registrations give way to new ones, in the store too. That an endpoint has used credentials is kept.
//
// # Client
//
// A device is a [Client] with some [Object]s. Run registers it and keeps it registered, through restarts of the server and
// days without a network, until its context ends:
//
//	client := lwm2m.NewClient(lwm2m.ClientConfig{
//		Endpoint: "urn:imei:490154203237518",
//		Server:   "coaps://lwm2m.example.com",
//		PSK:      key,
//		Objects:  []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: "1.2.0"}), thermometer},
//	})
//	err := client.Run(ctx)
//
// An object says what it has, and takes what it is given. When a value changes it calls [Client.Notify]; whether and when that
// is told to the server is up to the attributes that the server has written (pmin, pmax, gt, lt, st, edge).
//
// # Values
//
// What is read and written are lists of [Entry]: a [Path] and a typed [Value]. [AppendPayload] and [DecodePayload] turn them
// into content formats and back, by means of [Models], which know the objects' resources.
//
// # Downloads
//
// [Server.Handle] and [Server.HandleFunc] hand out what is not LwM2M, such as firmware; [Fetch] gets it, and goes on where it
// was interrupted.
package lwm2m
