package device

import (
	"errors"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
)

// resultOf returns the Update Result of err. It is the one that err carries ([ResultError]). Otherwise, while a package is
// taken and checked, a disk that is full or a quota that is used up is 2 and a lack of memory is 3; while one is installed the
// specification has no Result for them. For all else it is fallback, which says what went wrong by what was being done.
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

// storageError gives an error of storing, be it the package or the device's state, its Result: 2 unless there is a better one.
// Of the Results no other speaks of storage, whether it is full, broken or not to be written.
func storageError(err error) error {
	if _, carried := errors.AsType[*ResultError](err); carried {
		return err
	}
	return &ResultError{Result: resultOf(err, fsm.ResultNoStorage), Err: err}
}

// noSpace makes an error of a full disk match [ErrNoStorage].
func noSpace(err error) error {
	if disk.Full(err) {
		return storageError(err)
	}
	return err
}
