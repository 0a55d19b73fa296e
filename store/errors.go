package store

import "errors"

// The categories of a store's errors, for errors.Is.
var (
	ErrNotFound     = errors.New("store: not found")
	ErrExists       = errors.New("store: id exists already")
	ErrConflict     = errors.New("store: another commit has changed the record")
	ErrActive       = errors.New("store: endpoint has an active update")              // as *UpdateError
	ErrDuplicate    = errors.New("store: an update has this idempotency key already") // as *UpdateError
	ErrVersionTaken = errors.New("store: another image has this name and version")
	ErrInUse        = errors.New("store: an active update needs the image") // as *UpdateError
	ErrInvalid      = errors.New("store: invalid record")
	ErrClosed       = errors.New("store: closed")
	ErrFormat       = errors.New("store: another version of this module wrote the data")
	ErrDamaged      = errors.New("store: record is damaged")     // as *DamagedError
	ErrNotDamaged   = errors.New("store: record is not damaged") // for RemoveDamaged

	// ErrShort: a page ends before its Limit, and more records may follow; see [Store].
	ErrShort = errors.New("store: page is short")

	// ErrNoSpace: the disk is full, or a quota is used up. The same call works when there is space
	// again. The commit may have taken place nevertheless, as after any error of the database.
	ErrNoSpace = errors.New("store: no space left on the disk")
)

// An UpdateError names the update that made a change fail: the active update of the endpoint
// (ErrActive), the update with the same idempotency key (ErrDuplicate), or an active update that
// needs the image (ErrInUse), of which there may be more.
type UpdateError struct {
	Err error  // ErrActive, ErrDuplicate or ErrInUse
	ID  string // of the update
}

// Error implements error.
func (e *UpdateError) Error() string { return e.Err.Error() + ": update " + e.ID }

// Unwrap returns Err.
func (e *UpdateError) Unwrap() error { return e.Err }

// A Kind is a kind of record.
type Kind string

// The kinds of records.
const (
	KindUpdate Kind = "update"
	KindImage  Kind = "image"
	KindDevice Kind = "device"
	KindEvent  Kind = "event"

	KindRollout      Kind = "rollout"
	KindMember       Kind = "member"        // its key is that of the rollout, a space and the endpoint
	KindRolloutEvent Kind = "rollout_event" // the rollout, a space and the number
)

// A DamagedError says which record is damaged: a store cannot decode its bytes, it is the record of
// another key, or an index names it and it does not exist. It matches ErrDamaged.
type DamagedError struct {
	Kind Kind
	// Key is the id of an update or image, the endpoint of a device, or the sequence number of an
	// event in decimal digits.
	Key string
	Err error // the reason, not nil
}

// Error implements error.
func (e *DamagedError) Error() string {
	return ErrDamaged.Error() + ": " + string(e.Kind) + " " + e.Key + ": " + e.Err.Error()
}

// Is reports whether target is ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns Err.
func (e *DamagedError) Unwrap() error { return e.Err }
