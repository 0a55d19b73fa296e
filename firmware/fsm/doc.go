// Package fsm holds the two state machines of a LwM2M firmware update: the
// Firmware Update object as a device lives it, and the update as a server
// drives it.
//
// Both are a value and a function. Neither has a clock, a goroutine, a socket
// or a disk: time arrives inside events, and what is to be done leaves as
// data. A shell (firmware.Device, firmware.Manager) carries the effects out and
// reports how they went. All that is hard about an update is decided, and
// tested, here.
//
// # The device
//
// [Object] is Object 5. [Object.Step] takes an [Event] (a Write, a finished
// download, a boot) and returns the object that follows and the [Effects] that
// the shell owes, in the order in which Effects documents them: what is to be
// persisted is persisted before anyone can see it.
//
//	next, fx := object.Step(fsm.Event{Kind: fsm.EventWriteURI, At: now, URI: uri})
//	if fx.Persist {
//		save(next)
//	}
//	object = next
//	respond(fx.Code)
//	...
//
// # The server
//
// [Update] is one image for one endpoint, from request to outcome.
// [Update.Step] takes an [Observation] (the device registered, a Read was
// answered, time has passed) and returns the update that follows and the
// [Actions] that are due. It judges by what was read (State 5/0/3, Result
// 5/0/5, firmware version 3/0/3); notifications, registrations and timers only
// say that it is time to look. At most one action towards the device is under
// way at a time, and after an action whose outcome is unknown the machine reads
// before it repeats anything.
//
//	next, actions := update.Step(fsm.Observation{Kind: fsm.ObserveRegistered, At: now})
//	if actions.Persist {
//		store(next)
//	}
//	update = next
//	if actions.Do.Kind != fsm.ActionNone {
//		begin(actions.Do) // its end is reported with ObserveDone
//	}
//	wakeAt(update.Wake()) // ObserveTimer
//
// Which outcome follows from which reading stands in testdata/truth_table.golden,
// the device's transitions in testdata/transitions.golden; both are drawn in
// MACHINES.md, which is generated from the code.
package fsm
