package fsm

import "time"

// EventKind says what happened to the device's object.
type EventKind uint8

// The events of the device. The comment names the fields of [Event] that count
// beside Kind and At.
const (
	// EventBoot is the first event after each start of the device: Install,
	// PackageKept, and Fault when a push that the start finds broken off did not
	// end by the connection.
	EventBoot EventKind = iota + 1

	// EventPackageBegin is the first block of a Write to 5/0/0 that is no
	// reset: Size (Size1, 0 when not announced), and Fault when the shell cannot
	// take it.
	EventPackageBegin
	// EventPackageEnd is the last block; all bytes are stored: Transfer, Size.
	EventPackageEnd
	// EventPackageAbort is a push that broke off: Transfer, Fault (4 when left
	// zero).
	EventPackageAbort

	// EventWriteURI is a Write of a non-empty 5/0/1: URI, and Fault when the
	// shell cannot use it: ResultInvalidURI or ResultUnsupProtocol, or why the
	// download cannot begin.
	EventWriteURI
	// EventProgress reports bytes that are safely stored: Transfer, Offset,
	// Size, ETag. Soft: report it as often as a resume should lose little.
	EventProgress
	// EventDownloadComplete is the end of a download: Transfer, Size.
	EventDownloadComplete
	// EventDownloadFailed is a download that ended otherwise: Transfer, Fault
	// (4 when left zero).
	EventDownloadFailed

	// EventReset is an empty 5/0/1, a 5/0/0 of one NUL byte, or an empty 5/0/0.
	EventReset

	// EventVerified is a package found good: Transfer, Size, Digest, PkgName,
	// PkgVersion.
	EventVerified
	// EventVerifyFailed is a package found bad: Transfer, Fault (5 when left
	// zero).
	EventVerifyFailed

	// EventExecute is Execute 5/0/2: Defer when the device or its user asks for
	// time.
	EventExecute
	// EventAccept is the user's consent to a deferred update.
	EventAccept
	// EventCancel is Execute 5/0/10.
	EventCancel
	// EventTimer is due at [Object.Wake].
	EventTimer

	// EventInstallApplied: the new version is in place and starts with the next
	// boot.
	EventInstallApplied
	// EventInstallSucceeded: the new version runs, no boot needed.
	EventInstallSucceeded
	// EventInstallFailed: Fault (8 when left zero), PackageKept.
	EventInstallFailed
	// EventInstallDeferred: the installer found that it must not start yet.
	EventInstallDeferred

	// EventWriteSeverity, EventWriteMaxDefer and EventWriteAutoUpgrade are
	// Writes of 5/0/11, 5/0/13 and 5/0/14: Value.
	EventWriteSeverity
	EventWriteMaxDefer
	EventWriteAutoUpgrade

	eventEnd
)

var eventNames = [...]string{
	EventBoot: "boot", EventPackageBegin: "package begin", EventPackageEnd: "package end",
	EventPackageAbort: "package abort", EventWriteURI: "write URI", EventProgress: "progress",
	EventDownloadComplete: "download complete", EventDownloadFailed: "download failed",
	EventReset: "reset", EventVerified: "verified", EventVerifyFailed: "verify failed",
	EventExecute: "execute update", EventAccept: "accept", EventCancel: "execute cancel",
	EventTimer: "timer", EventInstallApplied: "install applied",
	EventInstallSucceeded: "install succeeded", EventInstallFailed: "install failed",
	EventInstallDeferred: "install deferred", EventWriteSeverity: "write severity",
	EventWriteMaxDefer: "write max defer", EventWriteAutoUpgrade: "write auto upgrade",
}

// String returns the name in words.
func (k EventKind) String() string {
	if k == 0 || k >= eventEnd {
		return "unknown event"
	}
	return eventNames[k]
}

// Install is what a boot found out about the installation that was under way.
type Install uint8

// What EventBoot can report. Only a device in State Updating looks at it.
const (
	// InstallUnknown: it was not begun, or cannot be told; it is begun again.
	InstallUnknown Install = iota
	// InstallPending: the new version runs on trial and is not confirmed yet.
	InstallPending
	// InstallSucceeded: the new version runs.
	InstallSucceeded
	// InstallFailed: the old version runs.
	InstallFailed
)

// Event is something that happened to a device's object. Kind says which of the
// fields count.
type Event struct {
	Kind EventKind
	// At is the time of the event.
	At time.Time
	// Transfer is Object.Transfer of the transfer that the event is about.
	Transfer uint32
	// URI is the Package URI, as written.
	URI string
	// Fault is the Update Result to report for a failure.
	Fault Result
	// Offset and Size are in bytes.
	Offset, Size int64
	// ETag is the entity tag of the download.
	ETag string
	// Digest, PkgName and PkgVersion describe a verified package.
	Digest, PkgName, PkgVersion string
	// Defer asks for time before an update.
	Defer bool
	// PackageKept says that the stored package (or its first part) is still
	// there.
	PackageKept bool
	// Install is the finding of a boot.
	Install Install
	// Value is the value of a written resource.
	Value int64
}

// Effects is what a step asks of the shell. The order of the fields is the
// order of the work: whatever is set is done before what stands below it, and
// an effect that others can see (Code and below) must not be begun before
// Persist is durable. When persisting fails, the old object stays in force, a
// request is answered 5.00, and nothing below is done.
//
// All effects can be repeated: after a crash the stored object and EventBoot
// lead to whatever was still owed.
type Effects struct {
	// Persist: store the new object durably.
	Persist bool
	// Abort: stop the transfer, verification or trial under way. Its events
	// are ignored from here on.
	Abort bool
	// DeleteImage: remove the stored package or its first part.
	DeleteImage bool
	// Code answers the request that the event was; CodeNone: no request.
	Code Code
	// NotifyResult and NotifyState: 5/0/5, and then 5/0/3, have new values for
	// their observers.
	NotifyResult, NotifyState bool
	// StartDownload: fetch Object.URI from Object.Offset on; with an offset
	// only if the entity tag still is Object.ETag, else from the start.
	StartDownload bool
	// Verify: check the stored package, then EventVerified or
	// EventVerifyFailed.
	Verify bool
	// Install: install the stored package, then one of the EventInstall kinds.
	// Installing what is already in place must be harmless.
	Install bool
	// Reboot: restart into the new version.
	Reboot bool
}
