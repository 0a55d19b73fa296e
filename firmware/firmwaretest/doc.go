// Package firmwaretest has a scripted device: an LwM2M client whose Object 5 follows a [Script],
// even where no good client would. It lies, forgets, falls silent and rolls back on demand, to test
// how a firmware.Manager handles that.
//
//	device := firmwaretest.NewDevice(lwm2m.ClientConfig{Endpoint: "sensor-1", Server: "coap://192.0.2.1"}, firmwaretest.Script{
//		Version: "1.0.0", Install: firmwaretest.Install{Version: "1.1.0"},
//	})
//	go device.Run(ctx)
//
// [Habits] are those of real clients, each with its name. They can be combined with any script: a
// device that lists no Object 5 ([Listing]), one that holds another server's package ([Foreign]),
// one that answers [Nonsense], or one that takes nothing else while a package is pushed.
// [FlownexusSample] is a whole client.
//
// With sockets of package simnet for ClientConfig.Listen, all of it runs in virtual time under
// testing/synctest. It shares no code with device.Device.
package firmwaretest
