package device

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An Installer is where a [Device] puts packages and how it starts them: the part of a device that knows its flash, its boot
// loader or its file system. [Slots] is one for devices with a file system.
//
// The device calls one method at a time, but for SaveState, which may come while another one runs. Whatever a method says
// to have done must be durable when it returns nil, power failures included; a method that failed, or was cut short by one,
// can be called again.
//
// No method is called any more when the run of the device's object has returned, and with it lwm2m.Client.Run; one that has not
// returned by then was left behind.
//
// A method that panics has failed. Verify and Apply take their time and should end when ctx does; any other method, and each
// one of a [PackageWriter], counts as failed after 2 min. While a call has not returned, none of those that must wait for it is
// begun: they fail too, and requests are answered. A device whose flash may hang for good needs a watchdog.
//
// An error of OpenPackage, of a PackageWriter, of SaveState, Verify or Apply becomes the Update Result (5/0/5) that it carries:
// see [ResultError] and the sentinels beside it. Without one it is 2 (no storage) for OpenPackage, writes and SaveState, 5
// (integrity) for Verify and 8 (update failed) for Apply. For Verify the operating system's errors that a disk is full or
// memory is short are 2 and 3.
type Installer interface {
	// LoadState returns the record that SaveState stored last, or nil if it never has.
	LoadState(ctx context.Context) ([]byte, error)
	// SaveState replaces the record, a few hundred bytes: after a crash either the old one is there or the new one.
	SaveState(ctx context.Context, record []byte) error

	// Status tells what there is; see [InstallerStatus]. It is asked once after each start.
	Status(ctx context.Context) (InstallerStatus, error)

	// OpenPackage begins to take a package, or goes on with the one that is staged: bytes from offset on are forgotten, the
	// next one written is number offset. With offset 0 whatever was staged is gone. size is the length of the whole package,
	// -1 if it is not known. Errors: [ErrNoStorage] when there is no room for it.
	OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error)
	// Verify checks the staged package from its first byte to its last and says what it is. Errors: [ErrIntegrity],
	// [ErrUnsupportedPackage].
	Verify(ctx context.Context) (PackageInfo, error)
	// Discard removes what is staged. It is no error if there is nothing, and what runs or is on trial stays.
	Discard(ctx context.Context) error

	// Apply makes the verified package the one to start next, on trial: until it is confirmed, any start that ends in trouble
	// leads back to the version that applied it. restart is false if the new version runs already. Applying what is
	// applied is harmless. Errors: [ErrDeferred] if it must not be now.
	Apply(ctx context.Context) (restart bool, err error)
	// Confirm makes the version on trial, which is running, the one that stays.
	Confirm(ctx context.Context) error
	// Rollback gives the version on trial up: the next start is that of the one before, and Status reports fsm.InstallFailed.
	Rollback(ctx context.Context) error
}

// A PackageWriter takes the bytes of a package in order. After a failed Write only Close is called; one that takes fewer bytes
// than it was given has failed, and so has what reports a number that cannot be.
type PackageWriter interface {
	io.Writer
	// Sync makes durable what was written and returns up to which byte of the package it is: never more than what was
	// written, perhaps less. [Installer.OpenPackage] can go on from there.
	Sync() (offset int64, err error)
	// Close lets go of the package, without making anything durable.
	Close() error
}

// InstallerStatus is what a start of the device finds.
type InstallerStatus struct {
	// Install is what became of the last Apply: unknown (there was none, or its version has not been started),
	// pending (the running version is on trial), succeeded (it was confirmed), failed (it was rolled back). The last two are
	// kept until the next package.
	Install fsm.Install
	// Staged is the number of bytes of a package that are there, from its first byte on; 0 if there is none.
	Staged int64
	// Verified says that the package is whole and was found good.
	Verified bool
}

// PackageInfo is what [Installer.Verify] found.
type PackageInfo struct {
	// Name and Version are the resources PkgName (5/0/6) and PkgVersion (5/0/7), "" if the package does not say.
	Name, Version string
	// Size is the package's length in bytes, Digest a digest of it in the installer's notation.
	Size   int64
	Digest string
}

// ResultError is an error with the Update Result that it becomes.
type ResultError struct {
	Result fsm.Result
	// Err says more; it may be nil.
	Err error
}

// Error implements error.
func (e *ResultError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("device: %s", e.Result)
	}
	return fmt.Sprintf("device: %s: %v", e.Result, e.Err)
}

// Unwrap returns Err.
func (e *ResultError) Unwrap() error { return e.Err }

// Is reports whether target is a *ResultError with the same Result and no Err: one of the sentinels.
func (e *ResultError) Is(target error) bool {
	t, ok := target.(*ResultError)
	return ok && t.Err == nil && t.Result == e.Result
}

// The errors of an [Installer], to be returned alone or wrapped.
var (
	// ErrNoStorage: there is not enough room for the package. Result 2.
	ErrNoStorage error = &ResultError{Result: fsm.ResultNoStorage}
	// ErrNoMemory: there is not enough memory to take the package. Result 3.
	ErrNoMemory error = &ResultError{Result: fsm.ResultOutOfMemory}
	// ErrIntegrity: the package is damaged, or not from whom it should be. Result 5.
	ErrIntegrity error = &ResultError{Result: fsm.ResultIntegrityFailed}
	// ErrUnsupportedPackage: this is no package for this device. Result 6.
	ErrUnsupportedPackage error = &ResultError{Result: fsm.ResultUnsupFirmware}
	// ErrUpdateFailed: the package is good, but it could not be installed. Result 8.
	ErrUpdateFailed error = &ResultError{Result: fsm.ResultUpdateFailed}
	// ErrDeferred: the package must not be installed now. Result 11.
	ErrDeferred error = &ResultError{Result: fsm.ResultDeferred}
)

// ErrRestart matches every [RestartError].
var ErrRestart = errors.New("device: another version is to be started")

// RestartError is how the Run of a device's object, and with it [lwm2m.Client.Run], asks its program to start another version:
// reboot, or ask [Slots.Boot] for what to start.
type RestartError struct {
	// RolledBack says that the version that runs gave itself up; otherwise a new one was installed.
	RolledBack bool
	// Reason says why, for people.
	Reason string
}

// Error implements error.
func (e *RestartError) Error() string {
	if e.RolledBack {
		return "device: rolled back, the version before is to be started: " + e.Reason
	}
	return "device: installed, a new version is to be started"
}

// Is reports whether target is ErrRestart.
func (e *RestartError) Is(target error) bool { return target == ErrRestart }
