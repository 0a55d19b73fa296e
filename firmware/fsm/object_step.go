package fsm

import "time"

// Step returns the object that follows ev, and what the shell owes. It changes
// nothing else and does not allocate.
//
// A request that is not allowed in the current state, or has a bad value, is
// answered in Effects.Code. An event that means nothing in the current state,
// such as the end of a transfer that was aborted, changes nothing.
func (o Object) Step(ev Event) (Object, Effects) {
	old := o
	var fx Effects
	//exhaustive:enforce
	switch ev.Kind {
	case EventBoot:
		fx = o.boot(ev)
	case EventPackageBegin:
		fx = o.packageBegin(ev)
	case EventWriteURI:
		fx = o.writeURI(ev)
	case EventReset:
		fx = o.reset()
	case EventProgress:
		fx = o.progress(ev)
	case EventPackageEnd, EventDownloadComplete:
		fx = o.complete(ev)
	case EventPackageAbort, EventDownloadFailed:
		fx = o.transferFailed(ev, ResultConnectionLost)
	case EventVerified:
		fx = o.verified(ev)
	case EventVerifyFailed:
		fx = o.verifyFailed(ev)
	case EventExecute:
		fx = o.execute(ev)
	case EventAccept, EventTimer:
		fx = o.proceed(ev)
	case EventCancel:
		fx = o.cancel()
	case EventInstallApplied:
		fx = Effects{Reboot: o.State == Updating}
	case EventInstallSucceeded:
		fx = o.installed()
	case EventInstallFailed:
		fx = o.installFailed(ev)
	case EventInstallDeferred:
		fx = o.installDeferred(ev)
	case EventWriteSeverity, EventWriteMaxDefer, EventWriteAutoUpgrade:
		fx = o.configure(ev)
	case eventEnd: // no event
	}
	return o.settle(old, ev.At, fx)
}

// settle derives from old and new what is to be persisted and notified.
func (o Object) settle(old Object, at time.Time, fx Effects) (Object, Effects) {
	if o.State != old.State {
		// The registry wants 5/0/12 to be right before the State is seen.
		o.Changed = at.Round(0).UTC()
	}
	fx.NotifyState = o.State != old.State
	fx.NotifyResult = o.Result != old.Result
	fx.Persist = o != old
	return o, fx
}

// wrongState answers an operation that is no trigger in the current state.
func (o Object) wrongState() Effects {
	if o.State == Updating {
		return Effects{Code: CodeMethodNotAllowed}
	}
	return Effects{Code: CodeBadRequest}
}

func (o *Object) packageBegin(ev Event) Effects {
	switch {
	case o.State != Idle:
		return o.wrongState()
	case !o.Method.Allows(DeliveryPush):
		return Effects{Code: CodeMethodNotAllowed}
	case ev.Fault != ResultDefault:
		return o.refuse(ev.Fault)
	}
	o.begin(DeliveryPush, "")
	o.Size = max(ev.Size, 0)
	return Effects{Code: CodeContinue}
}

func (o *Object) writeURI(ev Event) Effects {
	switch {
	case o.State != Idle:
		return o.wrongState()
	case !o.Method.Allows(DeliveryPull):
		return Effects{Code: CodeMethodNotAllowed}
	case ev.Fault != ResultDefault:
		return o.refuse(ev.Fault)
	case ev.URI == "" || len(ev.URI) > MaxURI:
		o.Result = ResultInvalidURI
		return Effects{Code: CodeBadRequest}
	}
	o.begin(DeliveryPull, ev.URI)
	return Effects{Code: CodeChanged, StartDownload: true}
}

// refuse answers a transfer that cannot begin, and reports why: some servers
// look only at the answer, others only at the Result. Not 4.13 for a lack of
// room: servers take that as a request for smaller blocks.
func (o *Object) refuse(fault Result) Effects {
	o.Result = fault
	if fault == ResultInvalidURI || fault == ResultUnsupProtocol {
		return Effects{Code: CodeBadRequest}
	}
	return Effects{Code: CodeInternalError}
}

// begin enters Downloading with a fresh transfer. An object that is Idle has no
// package.
func (o *Object) begin(delivery Delivery, uri string) {
	o.State, o.Result = Downloading, ResultDefault
	o.Delivery, o.URI = delivery, uri
	o.Transfer++
}

// dropPackage forgets all that describes a package, but not its URI.
func (o *Object) dropPackage() {
	o.Delivery, o.Offset, o.ETag, o.Size = DeliveryAuto, 0, "", 0
	o.Complete, o.Digest, o.PkgName, o.PkgVersion = false, "", "", ""
	o.DeferUntil = time.Time{}
}

// idle ends whatever was under way.
func (o *Object) idle(result Result) {
	o.dropPackage()
	o.State, o.Result = Idle, result
}

func (o *Object) reset() Effects {
	fx := Effects{Code: CodeChanged}
	switch o.State {
	case Updating:
		return o.wrongState()
	case Downloading:
		fx.Abort, fx.DeleteImage = true, true
	case Downloaded:
		fx.DeleteImage = true
	}
	o.idle(ResultDefault)
	o.URI = ""
	return fx
}

func (o *Object) cancel() Effects {
	switch {
	case o.Version < Object11:
		return Effects{Code: CodeNotFound}
	case o.State == Downloading:
		o.idle(ResultCancelled)
		return Effects{Code: CodeChanged, Abort: true, DeleteImage: true}
	case o.State == Downloaded:
		o.idle(ResultCancelled)
		return Effects{Code: CodeChanged, DeleteImage: true}
	default:
		return Effects{Code: CodeMethodNotAllowed}
	}
}

// transferring reports whether ev is about the transfer that is under way.
func (o Object) transferring(ev Event) bool {
	if o.State != Downloading || ev.Transfer != o.Transfer {
		return false
	}
	switch ev.Kind {
	case EventPackageEnd, EventPackageAbort:
		return o.Delivery == DeliveryPush
	case EventDownloadComplete, EventDownloadFailed:
		return o.Delivery == DeliveryPull
	default:
		return true
	}
}

func (o *Object) progress(ev Event) Effects {
	if !o.transferring(ev) || o.Complete {
		return Effects{}
	}
	o.Offset, o.ETag = max(ev.Offset, 0), ev.ETag
	if ev.Size > 0 {
		o.Size = ev.Size
	}
	return Effects{}
}

func (o *Object) complete(ev Event) Effects {
	var fx Effects
	if ev.Kind == EventPackageEnd {
		// The answer says that the bytes are here, not that they are good.
		fx.Code = CodeChanged
	}
	switch {
	case !o.transferring(ev):
		if ev.Kind == EventPackageEnd {
			return o.wrongState()
		}
		return Effects{}
	case o.Complete:
		return fx
	}
	o.Complete = true
	o.Offset, o.Size = ev.Size, ev.Size
	fx.Verify = true
	return fx
}

func (o *Object) transferFailed(ev Event, fallback Result) Effects {
	if !o.transferring(ev) || o.Complete {
		return Effects{}
	}
	o.idle(fault(ev, fallback))
	return Effects{DeleteImage: true}
}

// fault is the Result that a failure reports. 0 and 1 are no failures.
func fault(ev Event, fallback Result) Result {
	if ev.Fault == ResultDefault || ev.Fault == ResultSuccess {
		return fallback
	}
	return ev.Fault
}

func (o *Object) verified(ev Event) Effects {
	if !o.transferring(ev) || !o.Complete {
		return Effects{}
	}
	o.State, o.Result = Downloaded, ResultDefault
	if ev.Size > 0 {
		o.Size, o.Offset = ev.Size, ev.Size
	}
	o.Digest, o.PkgName, o.PkgVersion = ev.Digest, ev.PkgName, ev.PkgVersion
	return Effects{}
}

func (o *Object) verifyFailed(ev Event) Effects {
	if !o.transferring(ev) || !o.Complete {
		return Effects{}
	}
	o.idle(fault(ev, ResultIntegrityFailed))
	return Effects{DeleteImage: true}
}
