package store

import "errors"

// A Kind is a kind of record.
type Kind string

// The kinds of records.
const (
	KindUpdate Kind = "update"
	KindImage  Kind = "image"
	KindDevice Kind = "device"
	KindEvent  Kind = "event"
)

// ErrDamaged is the category of errors about a record that is there but cannot be read; see [DamagedError].
var ErrDamaged = errors.New("store: record is damaged")

// ErrNotDamaged is returned for a [RemoveDamaged] of a record that can be read.
var ErrNotDamaged = errors.New("store: record is not damaged")

// A DamagedError says which record is damaged: its bytes cannot be decoded, it is the record of another key, or an index
// names it and it is not there. It matches ErrDamaged.
type DamagedError struct {
	Kind Kind
	Key  string // an update's or image's id, a device's endpoint, an event's sequence number in decimal digits
	Err  error  // why; not nil
}

func (e *DamagedError) Error() string {
	return ErrDamaged.Error() + ": " + string(e.Kind) + " " + e.Key + ": " + e.Err.Error()
}

// Is reports whether target is ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// Unwrap returns Err.
func (e *DamagedError) Unwrap() error { return e.Err }

// RemoveDamaged removes a damaged record and what refers to it: of an update its place as the active one of its endpoint,
// its idempotency key and its journal; of an image its name and version; of an event its place in a journal. Of a device that
// is Secured a record that says nothing but that stays: [DeleteDevice] removes it. It is for repair: a back end may have to look at all records of an index, and hold up other commits meanwhile.
//
// ErrNotFound: there is no such record, and nothing refers to one. ErrNotDamaged: the record can be read.
// ErrInUse (as *InUseError): an active update needs the image.
type RemoveDamaged struct {
	Kind Kind
	Key  string // as in DamagedError
}

func (RemoveDamaged) change() {}
