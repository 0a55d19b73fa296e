// Package firmwaretest has a scripted device: an LwM2M client whose Object 5 does what a [Script] says, also what no
// good client does. It lies, forgets, falls silent and rolls back on demand, for tests of what a firmware.Manager makes of it.
//
//	device := firmwaretest.NewDevice(lwm2m.ClientConfig{Endpoint: "sensor-1", Server: "coap://192.0.2.1"}, firmwaretest.Script{
//		Version: "1.0.0", Install: firmwaretest.Install{Version: "1.1.0"},
//	})
//	go device.Run(ctx)
//
// With sockets of package simnet for ClientConfig.Listen all of it runs in virtual time under testing/synctest. It shares no
// code with firmware.Device.
package firmwaretest
