package store

import "errors"

// The categories of a store's errors, for errors.Is.
var (
	ErrNotFound     = errors.New("store: not found")
	ErrExists       = errors.New("store: id exists already")
	ErrConflict     = errors.New("store: record has changed meanwhile")
	ErrActive       = errors.New("store: endpoint has an active update")
	ErrDuplicate    = errors.New("store: idempotency key was used already")
	ErrVersionTaken = errors.New("store: another image has this name and version")
	ErrInUse        = errors.New("store: image is needed by an active update")
	ErrInvalid      = errors.New("store: no store keeps this record")
	ErrClosed       = errors.New("store: closed")

	// ErrNoSpace: the disk is full, or a quota used up. The same call works when there is room again; a commit may have
	// taken place all the same, as after any error of the database.
	ErrNoSpace = errors.New("store: no space left on the disk")
)

// An ActiveError says which update is in the way of a new one. It matches ErrActive.
type ActiveError struct{ Endpoint, ID string }

func (e *ActiveError) Error() string { return ErrActive.Error() + ": " + e.ID }

// Is reports whether target is ErrActive.
func (e *ActiveError) Is(target error) bool { return target == ErrActive }

// A DuplicateError says which update was created with the same idempotency key. It matches ErrDuplicate.
type DuplicateError struct{ ID string }

func (e *DuplicateError) Error() string { return ErrDuplicate.Error() + ": by update " + e.ID }

// Is reports whether target is ErrDuplicate.
func (e *DuplicateError) Is(target error) bool { return target == ErrDuplicate }

// An InUseError says which active update needs an image; there may be more. It matches ErrInUse.
type InUseError struct{ Image, Update string }

func (e *InUseError) Error() string { return ErrInUse.Error() + ": " + e.Update }

// Is reports whether target is ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }
