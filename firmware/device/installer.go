package device

import (
	"context"
	"io"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An Installer stores packages for a [Device] and starts them. It is the part that knows the flash,
// the boot loader or the file system. [Slots] is one for devices with a file system; the package
// example of Installer is a small one of another kind. Test your own with devicetest.RunInstaller,
// which checks what follows.
//
// # Order of calls
//
// A package goes through OpenPackage, Write and Sync in turns, Close, Verify, and Apply. The
// program then restarts. Confirm or Rollback end the trial of the new version. Discard may come at
// any time between those calls. After each start of the program, LoadState and then Status are
// called first, once each.
//
// The Device calls one method at a time, and no other method while a [PackageWriter] method runs.
// Only SaveState may be called while another call runs, from another goroutine. When
// lwm2m.Client.Run has returned, the Device calls no method any more; a call that had not returned
// was left behind.
//
// # Durability
//
// What a method reports as done, by returning nil, survives a power failure. A method that failed,
// or that a crash cut short, may be called again. A crash between two calls loses nothing but the
// bytes of a package that Sync did not report.
//
// # Time and failures
//
// Verify and Apply may take as long as they need, and should return soon after ctx has ended. Any
// other call, PackageWriter methods included, counts as failed after 2 minutes, and a call that
// panics counts as failed at once. While a call has not returned, the Device starts no call that
// must wait for it; such calls count as failed, and the server gets its answers. A device whose
// flash can hang for ever needs a watchdog.
//
// # Errors
//
// An error of OpenPackage, of a PackageWriter, of SaveState, Verify or Apply becomes an Update
// Result (5/0/5). It is the Result that the error carries: see [ResultError] and the sentinels
// beside it. An error without one becomes 2 (no storage) for OpenPackage, PackageWriter and
// SaveState, 5 (integrity check failed) for Verify, and 8 (update failed) for Apply. If Verify
// returns the error of the operating system for a full disk or for lack of memory, that is 2 or 3.
type Installer interface {
	// LoadState returns the record of the last SaveState, or nil if there never was one. The slice
	// belongs to the caller.
	LoadState(ctx context.Context) ([]byte, error)
	// SaveState replaces the record, which has a few hundred bytes. After a crash the old record is
	// there or the new one, whole. It must not keep the slice.
	SaveState(ctx context.Context, record []byte) error

	// Status returns what a start of the program finds: see [InstallerStatus].
	Status(ctx context.Context) (InstallerStatus, error)

	// OpenPackage opens the package that is being taken, to write bytes from offset on. offset is 0
	// or what Sync returned last for this package. What is stored from there on is forgotten; with
	// offset 0 that is all of it, and the outcome of the last Apply too. An offset beyond the
	// stored bytes is an error. size is the length of the whole package in bytes, -1 if it is not
	// known yet. It returns [ErrNoStorage] if the package does not fit. It is not called while a
	// version is on trial.
	OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error)
	// Verify checks the whole package that is stored, from its first byte to its last, and returns
	// what it is. It returns [ErrIntegrity] for a package that is damaged, incomplete or signed
	// with another key, and [ErrUnsupportedPackage] for one that is not for this device, or if none
	// is stored. Verifying a verified package again succeeds.
	Verify(ctx context.Context) (PackageInfo, error)
	// Discard removes the package that is stored, if there is one. It removes neither the version
	// that runs nor one on trial.
	Discard(ctx context.Context) error

	// Apply makes the verified package the version that starts next, on trial: unless Confirm is
	// called, the device returns to the version that runs now, at the latest after a few starts.
	// restart is false if the new version runs already, and then it is not on trial. Applying an
	// applied package again succeeds. Without a verified package Apply fails. It returns
	// [ErrDeferred] if the package must not be installed now.
	Apply(ctx context.Context) (restart bool, err error)
	// Confirm makes the running version, which was on trial, the one that stays. Confirming it
	// again succeeds.
	Confirm(ctx context.Context) error
	// Rollback ends the trial of the running version: the version before starts next, and Status
	// reports fsm.InstallFailed. Rolling back again succeeds.
	Rollback(ctx context.Context) error
}

// A PackageWriter takes the bytes of a package in order. Write must not keep or change its
// argument, and reports fewer bytes than it got only together with an error. After a Write that
// failed only Close is called. A count that cannot be right, more bytes than there were for
// example, is a failure. Write and Sync return [ErrNoStorage] when there is no more room, as for a
// package whose size was not known when it was opened.
type PackageWriter interface {
	io.Writer
	// Sync makes the bytes that were written durable. It returns how many bytes of the package,
	// counted from its first, are durable: not more than were written, perhaps fewer.
	// [Installer.OpenPackage] can go on from there.
	Sync() (offset int64, err error)
	// Close ends the writing. It need not make anything durable.
	Close() error
}

// InstallerStatus is what a start of the program finds.
type InstallerStatus struct {
	// Install is the outcome of the last Apply: InstallUnknown if there was none or the new version
	// has not been started, InstallPending if the running version is on trial, InstallSucceeded if
	// it was confirmed, InstallFailed if it was rolled back. Succeeded and failed are kept until
	// OpenPackage begins the next package.
	Install fsm.Install
	// Staged is the number of bytes of the package that is stored, counted from its first; 0 if
	// there is none.
	Staged int64
	// Verified says that the stored package is complete and that Verify accepted it.
	Verified bool
}

// PackageInfo is what [Installer.Verify] found.
type PackageInfo struct {
	// Name and Version become PkgName (5/0/6) and PkgVersion (5/0/7); "" if the package does not
	// say.
	Name, Version string
	// Size is the length of the package in bytes. Digest identifies its content, in a notation of
	// the installer's choice.
	Size   int64
	Digest string
}
