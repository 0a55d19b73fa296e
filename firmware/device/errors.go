package device

import (
	"errors"
	"fmt"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// ResultError is an error together with the Update Result that it becomes.
type ResultError struct {
	Result fsm.Result
	// Err is the cause. It may be nil.
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

// Is reports whether target is a *ResultError with the same Result and without Err, as the
// sentinels are.
func (e *ResultError) Is(target error) bool {
	t, ok := target.(*ResultError)
	return ok && t.Err == nil && t.Result == e.Result
}

// The errors of an [Installer]. It may wrap them.
var (
	// ErrNoStorage: the package does not fit. Result 2.
	ErrNoStorage error = &ResultError{Result: fsm.ResultNoStorage}
	// ErrNoMemory: there is not enough memory for the package. Result 3.
	ErrNoMemory error = &ResultError{Result: fsm.ResultOutOfMemory}
	// ErrIntegrity: the package is damaged, or signed with another key. Result 5.
	ErrIntegrity error = &ResultError{Result: fsm.ResultIntegrityFailed}
	// ErrUnsupportedPackage: the package is not for this device. Result 6.
	ErrUnsupportedPackage error = &ResultError{Result: fsm.ResultUnsupFirmware}
	// ErrUpdateFailed: the package is good, but could not be installed. Result 8.
	ErrUpdateFailed error = &ResultError{Result: fsm.ResultUpdateFailed}
	// ErrDeferred: the package must not be installed now. Result 11.
	ErrDeferred error = &ResultError{Result: fsm.ResultDeferred}
)

// ErrRestart matches every [RestartError].
var ErrRestart = errors.New("device: another version is to be started")

// RestartError is the error with which [lwm2m.Client.Run] returns when the program must end so that
// another version can start: call [Slots.Exec], or reboot into what the boot loader starts.
type RestartError struct {
	// RolledBack says that the running version, which was on trial, was rolled back. Otherwise a
	// new version was installed.
	RolledBack bool
	// Reason is why it was rolled back, for people; "" if it was not.
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

// resultOf returns the Update Result of err. It is the one that err carries ([ResultError]).
// Otherwise, while a package is taken and checked, a full disk or an exhausted quota is 2 and a
// lack of memory is 3; for an installation the specification has no such Results. Everything else
// is fallback, which depends on what failed.
func resultOf(err error, fallback fsm.Result) fsm.Result {
	re, carried := errors.AsType[*ResultError](err)
	switch {
	case carried:
		return re.Result
	case fallback == fsm.ResultUpdateFailed:
		return fallback
	case disk.Full(err):
		return fsm.ResultNoStorage
	case outOfMemory(err):
		return fsm.ResultOutOfMemory
	default:
		return fallback
	}
}

// storageError adds a Result to an error of storing the package or the state: 2 unless there is a
// better one, because no other Result is about storage, whether it is full, broken or read-only.
func storageError(err error) error {
	if _, carried := errors.AsType[*ResultError](err); carried {
		return err
	}
	return &ResultError{Result: resultOf(err, fsm.ResultNoStorage), Err: err}
}

// noSpace makes the error of a full disk match [ErrNoStorage].
func noSpace(err error) error {
	if disk.Full(err) {
		return storageError(err)
	}
	return err
}
