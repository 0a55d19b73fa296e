package fsm

import "time"

// Step returns the object that follows in, and what the shell must do. It changes nothing else and
// does not allocate.
//
// A request that the current state does not allow, or that has a bad value, is answered in
// Effects.Code. An input that means nothing in the current state, such as the end of an aborted
// transfer, changes nothing.
func (o Object) Step(in Input) (Object, Effects) {
	old := o
	var fx Effects
	//exhaustive:enforce
	switch in.Kind {
	case InputBoot:
		fx = o.boot(in)
	case InputPackageBegin:
		fx = o.packageBegin(in)
	case InputWriteURI:
		fx = o.writeURI(in)
	case InputReset:
		fx = o.reset()
	case InputProgress:
		fx = o.progress(in)
	case InputPackageEnd, InputDownloadComplete:
		fx = o.complete(in)
	case InputPackageAbort, InputDownloadFailed:
		fx = o.transferFailed(in, ResultConnectionLost)
	case InputVerified:
		fx = o.verified(in)
	case InputVerifyFailed:
		fx = o.verifyFailed(in)
	case InputExecute:
		fx = o.execute(in)
	case InputAccept, InputTimer:
		fx = o.proceed(in)
	case InputCancel:
		fx = o.cancel()
	case InputInstallApplied:
		fx = Effects{Reboot: o.State == Updating}
	case InputInstallSucceeded:
		fx = o.installed()
	case InputInstallFailed:
		fx = o.installFailed(in)
	case InputInstallDeferred:
		fx = o.installDeferred(in)
	case InputWriteSeverity, InputWriteMaxDefer, InputWriteAutoUpgrade:
		fx = o.configure(in)
	}
	return o.settle(old, in.At, fx)
}

// settle compares old and new, and sets what to persist and whom to notify.
func (o Object) settle(old Object, at time.Time, fx Effects) (Object, Effects) {
	if o.State != old.State {
		// The registry requires that 5/0/12 changes before observers see the State.
		o.Changed = at.Round(0).UTC()
	}
	fx.NotifyState = o.State != old.State
	fx.NotifyResult = o.Result != old.Result
	fx.Persist = o != old
	return o, fx
}

// wrongState answers an operation that the current state does not allow.
func (o Object) wrongState() Effects {
	if o.State == Updating {
		return Effects{Code: CodeMethodNotAllowed}
	}
	return Effects{Code: CodeBadRequest}
}

func (o *Object) packageBegin(in Input) Effects {
	switch {
	case o.State != Idle:
		return o.wrongState()
	case !o.Method.allows(DeliveryPush):
		return Effects{Code: CodeMethodNotAllowed}
	case in.Fault != ResultDefault:
		return o.refuse(in.Fault)
	}
	o.begin(DeliveryPush, "")
	o.Size = max(in.Size, 0)
	return Effects{Code: codeContinue}
}

func (o *Object) writeURI(in Input) Effects {
	switch {
	case o.State != Idle:
		return o.wrongState()
	case !o.Method.allows(DeliveryPull):
		return Effects{Code: CodeMethodNotAllowed}
	case in.Fault != ResultDefault:
		return o.refuse(in.Fault)
	case in.URI == "" || len(in.URI) > MaxURI:
		o.Result = ResultInvalidURI
		return Effects{Code: CodeBadRequest}
	}
	o.begin(DeliveryPull, in.URI)
	return Effects{Code: CodeChanged, StartDownload: true}
}

// refuse answers a transfer that cannot begin, and reports why: some servers look only at the
// answer, others only at the Result. It does not use 4.13 for a lack of room, which servers take as
// a request for smaller blocks.
func (o *Object) refuse(fault Result) Effects {
	o.Result = fault
	if fault == ResultInvalidURI || fault == ResultUnsupProtocol {
		return Effects{Code: CodeBadRequest}
	}
	return Effects{Code: codeInternalError}
}

// begin enters Downloading with a new transfer. An object that is Idle has no package.
func (o *Object) begin(delivery DeliveryMode, uri string) {
	o.State, o.Result = Downloading, ResultDefault
	o.Delivery, o.URI = delivery, uri
	o.Transfer++
}

// dropPackage clears what describes a package, and keeps its URI.
func (o *Object) dropPackage() {
	o.Delivery, o.Offset, o.ETag, o.Size = DeliveryAuto, 0, "", 0
	o.Complete, o.Digest, o.PkgName, o.PkgVersion = false, "", "", ""
	o.DeferUntil = time.Time{}
}

// idle enters Idle with a Result.
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

// transferring reports whether in is about the transfer that is under way.
func (o Object) transferring(in Input) bool {
	if o.State != Downloading || in.Transfer != o.Transfer {
		return false
	}
	switch in.Kind {
	case InputPackageEnd, InputPackageAbort:
		return o.Delivery == DeliveryPush
	case InputDownloadComplete, InputDownloadFailed:
		return o.Delivery == DeliveryPull
	default:
		return true
	}
}

func (o *Object) progress(in Input) Effects {
	if !o.transferring(in) || o.Complete {
		return Effects{}
	}
	o.Offset, o.ETag = max(in.Offset, 0), in.ETag
	if in.Size > 0 {
		o.Size = in.Size
	}
	return Effects{}
}

func (o *Object) complete(in Input) Effects {
	var fx Effects
	if in.Kind == InputPackageEnd {
		// The answer says that the bytes have arrived, not that they are good.
		fx.Code = CodeChanged
	}
	switch {
	case !o.transferring(in):
		if in.Kind == InputPackageEnd {
			return o.wrongState()
		}
		return Effects{}
	case o.Complete:
		return fx
	}
	o.Complete = true
	o.Offset, o.Size = in.Size, in.Size
	fx.Verify = true
	return fx
}

func (o *Object) transferFailed(in Input, fallback Result) Effects {
	if !o.transferring(in) || o.Complete {
		return Effects{}
	}
	o.idle(fault(in, fallback))
	return Effects{DeleteImage: true}
}

// fault returns the Result that a failure reports. 0 and 1 are no failures.
func fault(in Input, fallback Result) Result {
	if in.Fault == ResultDefault || in.Fault == ResultSuccess {
		return fallback
	}
	return in.Fault
}

func (o *Object) verified(in Input) Effects {
	if !o.transferring(in) || !o.Complete {
		return Effects{}
	}
	o.State, o.Result = Downloaded, ResultDefault
	if in.Size > 0 {
		o.Size, o.Offset = in.Size, in.Size
	}
	o.Digest, o.PkgName, o.PkgVersion = in.Digest, in.PkgName, in.PkgVersion
	return Effects{}
}

func (o *Object) verifyFailed(in Input) Effects {
	if !o.transferring(in) || !o.Complete {
		return Effects{}
	}
	o.idle(fault(in, ResultIntegrityFailed))
	return Effects{DeleteImage: true}
}
