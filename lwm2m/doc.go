// Package lwm2m speaks LwM2M 1.0, 1.1 and 1.2: a [Server] that keeps the registrations of devices
// and sends them requests, and a [Client] for the device's end. It runs on UDP and TCP sockets, and
// on anything that implements net.PacketConn or net.Listener.
//
// # Server
//
// A server starts with ListenAndServe, which may be called for several addresses. Devices register
// by themselves. Watch reports each registration, and from then on the device takes requests:
//
//	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Credentials: lwm2m.PSKFile("devices.psk")})
//	srv.Watch(func(e lwm2m.RegistrationEvent) {
//		if e.Kind == lwm2m.EventRegistered {
//			version, err := srv.ReadValue(ctx, e.Registration.Endpoint, lwm2m.NewPath(3, 0, 3))
//			...
//		}
//	})
//	err = srv.ListenAndServe(ctx, "coaps://:5684")
//
// A program names a device by its endpoint. The server knows the device's address, its version,
// formats and block size, and whether it sleeps: a request to a device that sleeps waits until it
// wakes, at most as long as its context lives. The error says what failed: an answer with an error
// code is a [*ResponseError], and a request that may have been carried out although no answer came
// is [ErrDeliveryUnknown].
//
// Methods such as Read and Write wait for the answer. [Server.Do] does so for any [Request].
// [Server.Go] does not wait: it takes a Request and calls a function with the [Answer], for
// programs that have requests for many devices, some of which sleep for days:
//
//	call := srv.Go(lwm2m.Request{
//		Endpoint: endpoint, Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(5, 0, 2),
//	}, func(a lwm2m.Answer) { results <- a.Err })
//	...
//	call.Cancel(errTooLate)
//
// [Server.Before] lets a program store what it is about to do before a request is sent.
//
// A device costs a record of some hundred bytes, no goroutine and no timer of its own; a request
// that waits for it to wake costs less than a kilobyte. Registrations survive a restart of the
// server in a [RegistrationStore].
//
// The server bounds what devices can make it hold, by the fields of [ServerConfig] in brackets:
//
//	what                              bound                                      beyond it
//	endpoints                         4 million (MaxRegistrations)               5.03
//	text of registrations             1 GiB together (MaxRegistrationBytes)      5.03
//	  of both, without credentials    three quarters, where credentials are used 5.03
//	  list of objects                 4 KiB (MaxLinks), 4096 links               4.13, 4.00
//	  endpoint name, identity         255, 1024 bytes                            4.00, 4.03
//	  binding, sms, profile           16, 64, 64 bytes                           4.00
//	  Attributes                      16, 512 bytes together                     4.00
//	lifetime                          1 s to 10 years (MinLifetime, MaxLifetime) 4.00
//	  without one (lt=0)              30 days of silence (MaxSilence)            it ends
//	other bodies in memory            64 KiB each (MaxMessage)                   4.13
//	waiting events of one endpoint    64                                         5.03
//	calls of Credentials              64 at once, 5 s each                       as an error: not now
//	a call of AwakeTimeOf             1 s                                        AwakeTime
//
// To make room for new registrations the server removes ended ones, from the store too. It still
// remembers that an endpoint has used credentials.
//
// # Logs and metrics
//
// The fields of a server's log have the same names in every line:
//
//	endpoint      the endpoint of a device; in a refusal the one that it claims
//	identity      the identity that the device has proven, "psk:NAME" or "certificate:NAME"; in a failed
//	              handshake the one that it claims; "" without credentials
//	address       of the device, host:port
//	transport     coap, coaps, coap+tcp, coaps+tcp
//	path          of a resource, such as /5/0/3
//	function      the function of the program that panicked or did not return
//	error, panic, stack
//
// A Register, a De-register and the expiry of a registration are info lines; a refusal is a
// warning, or an info line if its sender is not known. Keys are never logged. [ServerHooks] are
// functions for metrics and traces. [Server.Status] says how the server is, and [Server.Trace]
// shows the messages of one device.
//
// # Client
//
// A device is a [Client] with some [Object]s. Run registers it and keeps it registered, through
// restarts of the server and days without a network, until its context ends and it de-registers. It
// does not de-register when [Client.Stop] ends Run for a reboot:
//
//	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
//		Endpoint: "urn:imei:490154203237518",
//		Server:   "coaps://lwm2m.example.com",
//		PSK:      key,
//		Objects:  []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: "1.2.0"}), thermometer},
//	})
//	err = client.Run(ctx)
//
// Most objects are a [ValueObject]: the program sets its values, and decides which of them servers
// write and whether they create and delete instances. [NewDeviceObject] returns object 3. An object
// of the program's own implements [Object], and calls [Client.Notify] when a value changes. The
// attributes that the server has written (pmin, pmax, gt, lt, st, edge) decide whether and when the
// server gets a notification.
//
// # Values
//
// Reads and writes are lists of [Entry]: a [Path] and a typed [Value]. [AppendPayload] and
// [DecodePayload] turn them into content formats and back, with the help of [Models], which
// describe the resources of objects.
//
// # Downloads
//
// [Server.Handle] and [Server.HandleFunc] serve what is not LwM2M, such as firmware; [Fetch]
// downloads it, and resumes where it was interrupted.
package lwm2m
