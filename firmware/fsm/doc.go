// Package fsm holds the two state machines of a LwM2M firmware update: [Object], the Firmware
// Update object (Object 5) of a device, and [Update], the update as a server runs it.
//
// Both are a value and a function. Neither has a clock, a goroutine, a socket or a disk. Time
// arrives with each input, and the actions to take come out as data. A shell carries them out and
// reports the results: firmware/device for the device, firmware.Manager for the server. Programs
// that use these shells seldom need this package; package firmware repeats its words.
//
// # The device
//
// [Object.Step] takes an [Input] (a Write, a finished download, a boot) and returns the next object
// and the [Effects] that the shell must carry out, in the order of their fields: the object is
// durable before observers or servers see its effects.
//
//	object := load() // or NewObject(fsm.Object11, fsm.PushAndPull)
//	for in := range inputs {
//		next, effects := object.Step(in)
//		if effects.Persist {
//			save(next)
//		}
//		object = next
//		if effects.Code != fsm.CodeNone {
//			respond(effects.Code)
//		}
//		notify(effects.NotifyResult, effects.NotifyState)
//		if effects.StartDownload {
//			go download(object.URI, object.Offset) // its end is InputDownloadComplete or InputDownloadFailed
//		}
//		... // Verify, Install, Reboot
//	}
//
// # The server
//
// [Update.Step] takes an [Observation] (the device registered, a Read was answered, time has
// passed) and returns the next update and the [Actions] that are due. It decides by what was read:
// State 5/0/3, Result 5/0/5, version 3/0/3. Notifications, registrations and timers only say that
// it is time to read. At most one action is under way at a time. After an action with an unknown
// effect the machine reads before it repeats anything.
//
//	update := fsm.NewUpdate(fsm.Plan{Target: "1.1.0", Size: size, Digest: digest}, time.Now())
//	for o := range observations { // the first one is ObserveStarted
//		next, actions := update.Step(o)
//		if actions.Abandon {
//			stopAction()
//		}
//		if actions.Persist {
//			store(next, actions.Journal)
//		}
//		update = next
//		if actions.Do.Kind != fsm.ActionNone {
//			begin(actions.Do) // its end is ObserveDone
//		}
//		wakeAt(update.Wake()) // then ObserveTimer
//	}
//
// These invariants hold whatever is lost, delayed or repeated, and whichever side restarts:
//
//  1. The server sends Execute only if the device provably holds this package: the server wrote it,
//     in this attempt, into an idle device that did not refuse it; or pushed it to its last block
//     into a device that hung in a transfer; or a client that cannot be reset downloaded it to its
//     last byte; or the stored facts name it.
//  2. Succeeded means that a read after the transfer showed the target version; or Result 1, where
//     that counts; or, before any Write and without force, that the device runs the target already.
//     If it ran the target before, the version alone proves nothing.
//  3. The Result connection_lost is stored only if the device reported it, or was away or did not
//     answer when its time was over. A fault of the server has a reason of its own.
//  4. MayStill says what can follow of an update that was cancelled.
//  5. After an update has ended the server sends no Execute for it.
//  6. An active update says what it waits for, truthfully, and by when something happens.
//  7. Every observation is applied, and every call that waits for one returns. This one is the
//     shell's.
//  8. An update with a hold that was committed before its step to executing does not execute.
//  9. A device for which the image is not made, or that has not said what it is, gets no Write and
//     no Execute, unless the update is forced.
//
// The model check of this package explores them with faults of network, server and device.
// testdata/faults plants faults of the code that it must find.
//
// testdata/truth_table.golden shows which outcome follows from which reading,
// testdata/transitions.golden the transitions of the device. MACHINES.md, generated from the code,
// draws both.
package fsm

//go:generate go test . -run "TestTransitions|TestTruthTable|TestTranscripts|TestMachines" -update
