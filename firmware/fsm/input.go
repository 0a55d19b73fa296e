package fsm

import "time"

// InputKind says what happened to the device's object.
type InputKind string

// The inputs of the device's machine. Each comment names the fields of [Input] that count beside
// Kind and At.
const (
	// InputBoot is the first input after each start of the device: Install, PackageKept. Fault is
	// set if the start finds a push that broke off for another reason than a lost connection.
	InputBoot InputKind = "boot"

	// InputPackageBegin is the first block of a Write to 5/0/0 that is not a reset: Size (Size1 of
	// the request, 0 if it named none). Fault is set if the shell cannot store the package.
	InputPackageBegin InputKind = "package_begin"
	// InputPackageEnd is the last block; all bytes are stored: Transfer, Size.
	InputPackageEnd InputKind = "package_end"
	// InputPackageAbort is a push that broke off: Transfer, Fault (zero means
	// ResultConnectionLost).
	InputPackageAbort InputKind = "package_abort"

	// InputWriteURI is a Write of a non-empty 5/0/1: URI. Fault is set if the shell cannot use the
	// URI (ResultInvalidURI, ResultUnsupProtocol) or cannot begin the download.
	InputWriteURI InputKind = "write_uri"
	// InputProgress reports bytes that are safely stored: Transfer, Offset, Size, ETag. A device
	// that restarts continues from the last one that was saved.
	InputProgress InputKind = "progress"
	// InputDownloadComplete is the end of a download: Transfer, Size.
	InputDownloadComplete InputKind = "download_complete"
	// InputDownloadFailed is a failed download: Transfer, Fault (zero means ResultConnectionLost).
	InputDownloadFailed InputKind = "download_failed"

	// InputReset is a Write of an empty 5/0/1, of one NUL byte to 5/0/0, or of an empty 5/0/0.
	InputReset InputKind = "reset"

	// InputVerified is a package that passed verification: Transfer, Size, Digest, PkgName,
	// PkgVersion.
	InputVerified InputKind = "verified"
	// InputVerifyFailed is a package that did not pass it: Transfer, Fault (zero means
	// ResultIntegrityFailed).
	InputVerifyFailed InputKind = "verify_failed"

	// InputExecute is Execute 5/0/2. Defer is set if the device or its user asks for time.
	InputExecute InputKind = "execute"
	// InputAccept is the user's consent to a deferred update.
	InputAccept InputKind = "accept"
	// InputCancel is Execute 5/0/10.
	InputCancel InputKind = "cancel"
	// InputTimer is due at [Object.Wake].
	InputTimer InputKind = "timer"

	// InputInstallApplied: the new version is in place and starts with the next boot.
	InputInstallApplied InputKind = "install_applied"
	// InputInstallSucceeded: the new version runs; no boot is needed.
	InputInstallSucceeded InputKind = "install_succeeded"
	// InputInstallFailed: Fault (zero means ResultUpdateFailed), PackageKept.
	InputInstallFailed InputKind = "install_failed"
	// InputInstallDeferred: the installer must not start yet.
	InputInstallDeferred InputKind = "install_deferred"

	// InputWriteSeverity, InputWriteMaxDefer and InputWriteAutoUpgrade are Writes of 5/0/11, 5/0/13
	// and 5/0/14: Value.
	InputWriteSeverity    InputKind = "write_severity"
	InputWriteMaxDefer    InputKind = "write_max_defer"
	InputWriteAutoUpgrade InputKind = "write_auto_upgrade"
)

// Install is what a boot found out about the installation that was under way.
type Install uint8

// The values of Input.Install. Only a device in State Updating uses them.
const (
	// InstallUnknown: the installation has not begun, or its state cannot be determined. It begins
	// again.
	InstallUnknown Install = iota
	// InstallPending: the new version runs on trial and is not confirmed yet.
	InstallPending
	// InstallSucceeded: the new version runs.
	InstallSucceeded
	// InstallFailed: the old version runs.
	InstallFailed
)

// Input is something that happened to a device's object. Kind says which of the fields count.
type Input struct {
	Kind InputKind
	// At is the time of the input.
	At time.Time
	// Transfer is Object.Transfer of the transfer that the input is about.
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
	// PackageKept says that the stored package (or its first part) is still there.
	PackageKept bool
	// Install is what the boot found.
	Install Install
	// Value is the value of a written resource.
	Value int64
}

// Effects is what a step asks of the shell. The shell carries the effects out in the order of the
// fields. It begins with Code and the effects after it, which others can see, only once Persist is
// durable. If it cannot persist, it keeps the old object, answers a request with 5.00, and does
// nothing below.
//
// All effects can be repeated: after a crash, the stored object and InputBoot lead to the effects
// that are still due.
type Effects struct {
	// Persist: store the new object durably.
	Persist bool
	// Abort: stop the transfer, verification or trial that is under way. The object ignores its
	// later inputs.
	Abort bool
	// DeleteImage: remove the stored package or its first part.
	DeleteImage bool
	// Code answers the request that the input was. CodeNone: it was no request.
	Code Code
	// NotifyResult and NotifyState: notify the observers of 5/0/5, and then those of 5/0/3.
	NotifyResult, NotifyState bool
	// StartDownload: fetch Object.URI from Object.Offset on. With an offset, continue only if the
	// entity tag is still Object.ETag, and start over otherwise.
	StartDownload bool
	// Verify: check the stored package, then report InputVerified or InputVerifyFailed.
	Verify bool
	// Install: install the stored package, then report one of the InputInstall kinds. Installing
	// again what is already in place must be harmless.
	Install bool
	// Reboot: restart into the new version.
	Reboot bool
}
