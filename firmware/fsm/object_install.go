package fsm

import "time"

func (o *Object) boot(ev Event) Effects {
	switch o.State {
	case Downloading:
		return o.bootDownloading(ev)
	case Downloaded:
		if !ev.PackageKept {
			o.idle(ResultDefault)
			return Effects{DeleteImage: true}
		}
	case Updating:
		ev.Fault = ResultDefault // the fault of a transfer is none of the installation
		switch ev.Install {
		case InstallUnknown:
			if !ev.PackageKept {
				o.idle(ResultUpdateFailed)
				return Effects{DeleteImage: true}
			}
			return Effects{Install: true}
		case InstallSucceeded:
			return o.installed()
		case InstallFailed:
			return o.installFailed(ev)
		}
	}
	return Effects{}
}

// bootDownloading continues what a reboot interrupted. A push cannot be
// continued: the server's transfer is gone.
func (o *Object) bootDownloading(ev Event) Effects {
	switch {
	case o.Complete && ev.PackageKept:
		return Effects{Verify: true}
	case o.Delivery != DeliveryPull:
		o.idle(fault(ev, ResultConnectionLost))
		return Effects{DeleteImage: true}
	}
	var fx Effects
	if o.ETag == "" || o.Complete || !ev.PackageKept {
		// What is stored cannot be matched with what the server has now.
		fx.DeleteImage = o.Offset > 0
		o.Offset, o.ETag, o.Complete = 0, "", false
	}
	fx.StartDownload = true
	return fx
}

func (o *Object) execute(ev Event) Effects {
	if o.State != Downloaded {
		return Effects{Code: CodeMethodNotAllowed}
	}
	if ev.Defer && o.deferring(ev.At) {
		return Effects{Code: CodeChanged}
	}
	o.update()
	return Effects{Code: CodeChanged, Install: true}
}

// deferring puts the update off and reports whether that is allowed: resource
// 5/0/13 is not 0, and its period, counted from the first time, is not over.
func (o *Object) deferring(at time.Time) bool {
	if o.Version < Object11 || o.MaxDefer == 0 {
		return false
	}
	if o.DeferUntil.IsZero() {
		o.DeferUntil = at.Round(0).UTC().Add(time.Duration(o.MaxDefer) * time.Second)
	}
	if !at.Before(o.DeferUntil) {
		return false
	}
	o.State, o.Result = Downloaded, ResultDeferred
	return true
}

// update enters Updating. The defer period stays known, so that an installer
// cannot defer for ever.
func (o *Object) update() {
	o.State, o.Result = Updating, ResultDefault
}

// proceed starts an update that waited for consent, for the end of its defer
// period, or for nothing but its download.
func (o *Object) proceed(ev Event) Effects {
	deferred := o.State == Downloaded && o.Result == ResultDeferred
	switch {
	case deferred && (ev.Kind == EventAccept || !ev.At.Before(o.DeferUntil)):
	case o.autoUpgradeDue() && ev.Kind == EventTimer:
	default:
		return Effects{}
	}
	o.update()
	return Effects{Install: true}
}

func (o *Object) installed() Effects {
	if o.State != Updating {
		return Effects{}
	}
	o.idle(ResultSuccess)
	o.URI = ""
	return Effects{DeleteImage: true}
}

func (o *Object) installFailed(ev Event) Effects {
	if o.State != Updating {
		return Effects{}
	}
	result := fault(ev, ResultUpdateFailed)
	if ev.PackageKept && result == ResultUpdateFailed {
		o.State, o.Result = Downloaded, result
		return Effects{}
	}
	o.idle(result)
	return Effects{DeleteImage: true}
}

func (o *Object) installDeferred(ev Event) Effects {
	if o.State != Updating {
		return Effects{}
	}
	if !o.deferring(ev.At) {
		// Deferring is not, or no longer, allowed: as good as a failure.
		o.State, o.Result = Downloaded, ResultUpdateFailed
	}
	return Effects{}
}

// configure writes one of the resources that later versions of the object have.
func (o *Object) configure(ev Event) Effects {
	since := Object11
	if ev.Kind == EventWriteAutoUpgrade {
		since = Object12
	}
	if o.Version < since {
		return Effects{Code: CodeNotFound}
	}
	switch ev.Kind {
	case EventWriteSeverity:
		if ev.Value < 0 || ev.Value > int64(SeverityOptional) {
			return Effects{Code: CodeBadRequest}
		}
		o.Severity = Severity(ev.Value)
	case EventWriteMaxDefer:
		if ev.Value < 0 || ev.Value > 1<<32-1 {
			return Effects{Code: CodeBadRequest}
		}
		o.MaxDefer = uint32(ev.Value)
		if o.MaxDefer == 0 && o.State == Downloaded && o.Result == ResultDeferred {
			// Deferring is forbidden from now on: the timer is due.
			o.DeferUntil = ev.At.Round(0).UTC()
		}
	case EventWriteAutoUpgrade:
		o.AutoUpgrade = ev.Value != 0
	}
	return Effects{Code: CodeChanged}
}
