// Package fsm holds the two state machines of a LwM2M firmware update: the
// Firmware Update object as a device lives it, and the update as a server
// drives it.
//
// Both are a value and a function. Neither has a clock, a goroutine, a socket
// or a disk: time arrives inside events, and what is to be done leaves as
// data. A shell (device.Device, firmware.Manager) carries the effects out and
// reports how they went. All that is hard about an update is decided, and
// tested, here.
//
// # The device
//
// [Object] is Object 5. [Object.Step] takes an [Input] (a Write, a finished
// download, a boot) and returns the object that follows and the [Effects] that
// the shell owes, in the order in which Effects documents them: what is to be
// persisted is persisted before anyone can see it.
//
//	next, fx := object.Step(fsm.Input{Kind: fsm.InputWriteURI, At: now, URI: uri})
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
// What must always hold, whatever is lost, delayed or repeated, and whoever
// restarts:
//
//  1. Execute is sent only if it is proven that the device holds this package:
//     it was written, in this attempt, into an idle device and not refused; or
//     pushed to its last block into one that hung in a transfer; or fetched to
//     its last byte by a client that cannot be reset; or the stored facts name
//     it.
//  2. Succeeded means that a read after the transfer showed the target version;
//     or Result 1, where that counts; or, before any write and without force,
//     that the device runs the target already. Where it ran the target before,
//     the version alone proves nothing.
//  3. The Result connection_lost is stored only if the device reported it, or
//     was away or unanswering when its time was over. A fault of the server's is
//     called so.
//  4. Of a cancelled update MayStill says what can follow.
//  5. After an update has ended no Execute of it is sent.
//  6. An active update says what it waits for, truly, and by when something
//     happens.
//  7. Every observation is taken in, and every call that waits for one returns.
//     This one is the shell's.
//  8. An update with a hold that was committed before its step to executing
//     does not execute.
//
// The model check of this package explores them with faults of network, server
// and device; testdata/faults plants the faults of the code that it must find.
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
