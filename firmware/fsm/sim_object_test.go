package fsm_test

import (
	"encoding/json"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// device is a shell around [fsm.Object] in a simulation: it lets the device's machine and the
// server's machine meet.
type device struct {
	habits
	sim      *sim
	object   fsm.Object
	up       bool
	observed bool
	boots    int
	began    int

	// What survives a reboot.
	stored   fsm.Object
	version  string
	image    bool // some bytes of the package, or all
	installs int
	tried    bool // the new version ran and did not confirm itself
}

func newDevice(s *sim, h habits) *device {
	d := &device{habits: h, sim: s, version: oldVersion, up: true}
	d.object = fsm.NewObject(fsm.Object11, fsm.PushAndPull)
	d.stored = d.object
	return d
}

func (d *device) reachable() bool { return d.up }
func (d *device) forget()         { d.observed = false }

func (d *device) doze(wait time.Duration) {
	d.up = false
	d.later(wait, func() {
		d.up = true
		d.sim.observe(fsm.Observation{Kind: fsm.ObserveAwake})
	})
}

func (d *device) truth() truth {
	return truth{version: d.version, boots: d.boots, began: d.began, installs: d.installs}
}

func (d *device) later(wait time.Duration, fn func()) {
	boot := d.boots
	d.sim.after(wait, func() {
		if d.boots == boot {
			fn()
		}
	})
}

// step does what [fsm.Effects] says, in its order; the power may fail around every commit. It
// reports CodeNone if it did.
func (d *device) step(in fsm.Input) fsm.Code {
	boot := d.boots
	in.At = d.sim.now
	next, fx := d.object.Step(in)
	if fx.Persist {
		fault := 0
		if in.Kind != fsm.InputProgress {
			fault = d.sim.choose("commit of "+string(in.Kind), "good", "power fails before", "power fails after")
		}
		if fault == 1 {
			d.reboot()
			return fsm.CodeNone
		}
		d.stored = next
		if fault == 2 {
			d.reboot()
			return fsm.CodeNone
		}
	}
	d.object = next
	if fx.DeleteImage {
		d.image = false
	}
	if (fx.NotifyResult || fx.NotifyState) && d.observed && d.up {
		if d.sim.choose("notification", "delivered", "lost") == 0 {
			d.sim.observe(fsm.Observation{Kind: fsm.ObserveHint, Reading: fsm.Reading{State: fsm.Known(d.object.State)}})
		}
	}
	if d.boots != boot {
		return fsm.CodeNone
	}
	transfer := next.Transfer
	if fx.StartDownload {
		d.later(download/2, func() {
			d.image = true
			d.step(fsm.Input{Kind: fsm.InputProgress, Transfer: transfer, Offset: 500, Size: 1000, ETag: "e"})
		})
		d.later(download, func() { d.finishDownload(transfer) })
	}
	if fx.Verify {
		d.later(time.Second, func() { d.verify(transfer) })
	}
	if fx.Install {
		d.began++
		d.later(time.Second, func() { d.step(fsm.Input{Kind: fsm.InputInstallApplied}) })
	}
	if fx.Reboot {
		d.tried = d.oldAgain
		if !d.oldAgain {
			if d.version != d.plan.Target {
				d.installs++
			}
			d.version = d.plan.Target
		}
		d.reboot()
	}
	return fx.Code
}

func (d *device) finishDownload(transfer uint32) {
	d.image = true
	if len(d.downloadFails) > 0 && d.downloadFails[0] == fsm.ResultConnectionLost {
		d.downloadFails = d.downloadFails[1:]
		d.step(fsm.Input{Kind: fsm.InputDownloadFailed, Transfer: transfer})
		return
	}
	d.step(fsm.Input{Kind: fsm.InputDownloadComplete, Transfer: transfer, Size: 1000})
}

func (d *device) verify(transfer uint32) {
	if len(d.downloadFails) > 0 {
		d.step(fsm.Input{Kind: fsm.InputVerifyFailed, Transfer: transfer, Fault: d.downloadFails[0]})
		return
	}
	d.step(fsm.Input{Kind: fsm.InputVerified, Transfer: transfer, Size: 1000, PkgVersion: d.plan.Target})
}

func (d *device) reboot() {
	d.boots++
	d.up, d.observed = false, false
	data, err := json.Marshal(d.stored)
	require.NoError(d.sim.t, err)
	d.object = fsm.Object{}
	require.NoError(d.sim.t, json.Unmarshal(data, &d.object))
	d.sim.check(d.object == d.stored, "an object is the same after it was stored")
	d.later(restart, func() {
		in := fsm.Input{Kind: fsm.InputBoot, PackageKept: d.image}
		switch {
		case d.version == d.plan.Target:
			in.Install = fsm.InstallSucceeded
		case d.tried:
			in.Install, in.PackageKept = fsm.InstallFailed, false
		}
		boot := d.boots
		if d.step(in); d.boots != boot {
			return
		}
		d.up = true
		d.sim.observe(fsm.Observation{Kind: fsm.ObserveRegistered})
	})
}

func (d *device) carryOut(a fsm.Action) (fsm.Code, fsm.Reading) {
	switch a.Kind {
	case fsm.ActionRead:
		r := fsm.Reading{
			State: fsm.Known(d.object.State), Result: fsm.Known(d.object.Result), Version: fsm.Known(d.version),
			Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP}),
			Delivery:  fsm.Known(d.object.Method), Offers: []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP},
			MaxDefer: fsm.Known(time.Duration(d.object.MaxDefer) * time.Second),
		}
		return fsm.CodeContent, r
	case fsm.ActionObserve:
		d.observed = true
		return fsm.CodeContent, fsm.Reading{State: fsm.Known(d.object.State)}
	case fsm.ActionReset:
		return d.step(fsm.Input{Kind: fsm.InputReset}), fsm.Reading{}
	case fsm.ActionWriteURI:
		return d.step(fsm.Input{Kind: fsm.InputWriteURI, URI: "coap://[::1]/fw"}), fsm.Reading{}
	case fsm.ActionExecute:
		return d.step(fsm.Input{Kind: fsm.InputExecute}), fsm.Reading{}
	case fsm.ActionCancel:
		code := d.step(fsm.Input{Kind: fsm.InputCancel})
		_, r := d.carryOut(fsm.Action{Kind: fsm.ActionRead})
		return code, r
	case fsm.ActionPush:
		code := d.step(fsm.Input{Kind: fsm.InputPackageBegin, Size: 1000})
		if code != fsm.CodeContinue {
			return code, fsm.Reading{}
		}
		d.image = true
		return d.step(fsm.Input{Kind: fsm.InputPackageEnd, Transfer: d.object.Transfer, Size: 1000}), fsm.Reading{}
	}
	return fsm.CodeNotFound, fsm.Reading{}
}

func (d *device) breakPush() {
	if d.step(fsm.Input{Kind: fsm.InputPackageBegin, Size: 1000}) != fsm.CodeContinue {
		return
	}
	transfer := d.object.Transfer
	d.image = true
	d.later(30*time.Second, func() { d.step(fsm.Input{Kind: fsm.InputPackageAbort, Transfer: transfer}) })
}
