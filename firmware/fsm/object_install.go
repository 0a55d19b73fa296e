package fsm

import "time"

func (o *Object) boot(in Input) Effects {
	switch o.State {
	case Downloading:
		return o.bootDownloading(in)
	case Downloaded:
		if !in.PackageKept {
			o.idle(ResultDefault)
			return Effects{DeleteImage: true}
		}
	case Updating:
		in.Fault = ResultDefault // the fault of a transfer does not belong to the installation
		switch in.Install {
		case InstallUnknown:
			if !in.PackageKept {
				o.idle(ResultUpdateFailed)
				return Effects{DeleteImage: true}
			}
			return Effects{Install: true}
		case InstallSucceeded:
			return o.installed()
		case InstallFailed:
			return o.installFailed(in)
		}
	}
	return Effects{}
}

// bootDownloading continues a download that a reboot interrupted. It cannot continue a push: the
// transfer of the server has ended.
func (o *Object) bootDownloading(in Input) Effects {
	switch {
	case o.Complete && in.PackageKept:
		return Effects{Verify: true}
	case o.Delivery != DeliveryPull:
		o.idle(fault(in, ResultConnectionLost))
		return Effects{DeleteImage: true}
	}
	var fx Effects
	if o.ETag == "" || o.Complete || !in.PackageKept {
		// The stored bytes cannot be compared with what the server has now.
		fx.DeleteImage = o.Offset > 0
		o.Offset, o.ETag, o.Complete = 0, "", false
	}
	fx.StartDownload = true
	return fx
}

func (o *Object) execute(in Input) Effects {
	if o.State != Downloaded {
		return Effects{Code: CodeMethodNotAllowed}
	}
	if in.Defer && o.deferring(in.At) {
		return Effects{Code: CodeChanged}
	}
	o.update()
	return Effects{Code: CodeChanged, Install: true}
}

// deferring defers the update and reports whether that is allowed: resource 5/0/13 is not 0, and
// its period, counted from the first time, has not ended.
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

// update enters Updating. It keeps the end of the defer period, so that an installer cannot defer
// for ever.
func (o *Object) update() {
	o.State, o.Result = Updating, ResultDefault
}

// proceed starts an update that waited for consent, for the end of its defer period, or only for
// its download.
func (o *Object) proceed(in Input) Effects {
	deferred := o.State == Downloaded && o.Result == ResultDeferred
	switch {
	case deferred && (in.Kind == InputAccept || !in.At.Before(o.DeferUntil)):
	case o.autoUpgradeDue() && in.Kind == InputTimer:
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

func (o *Object) installFailed(in Input) Effects {
	if o.State != Updating {
		return Effects{}
	}
	result := fault(in, ResultUpdateFailed)
	if in.PackageKept && result == ResultUpdateFailed {
		o.State, o.Result = Downloaded, result
		return Effects{}
	}
	o.idle(result)
	return Effects{DeleteImage: true}
}

func (o *Object) installDeferred(in Input) Effects {
	if o.State != Updating {
		return Effects{}
	}
	if !o.deferring(in.At) {
		// The object does not allow deferring (any more): the installation has failed.
		o.State, o.Result = Downloaded, ResultUpdateFailed
	}
	return Effects{}
}

// configure writes a resource that later versions of the object have.
func (o *Object) configure(in Input) Effects {
	since := Object11
	if in.Kind == InputWriteAutoUpgrade {
		since = Object12
	}
	if o.Version < since {
		return Effects{Code: CodeNotFound}
	}
	switch in.Kind {
	case InputWriteSeverity:
		if in.Value < 0 || in.Value > SeverityOptional {
			return Effects{Code: CodeBadRequest}
		}
		o.Severity = uint8(in.Value)
	case InputWriteMaxDefer:
		if in.Value < 0 || in.Value > 1<<32-1 {
			return Effects{Code: CodeBadRequest}
		}
		o.MaxDefer = uint32(in.Value)
		if o.MaxDefer == 0 && o.State == Downloaded && o.Result == ResultDeferred {
			// Deferring is now forbidden: the timer is due.
			o.DeferUntil = in.At.Round(0).UTC()
		}
	case InputWriteAutoUpgrade:
		o.AutoUpgrade = in.Value != 0
	}
	return Effects{Code: CodeChanged}
}
