package store

import (
	"context"
	"iter"
)

// A Store keeps the records of one namespace. It is safe for concurrent use, and so are the sequences that it returns:
// each range over one asks anew.
//
// Records are passed and returned by value; slices in them belong to the receiver: a store copies what it keeps, and what
// it returns is the caller's. Text and times come back as [Normalize] leaves them.
//
// A sequence yields a non-nil error at most once, as the last pair; only damaged records are different, see below. It is no
// snapshot: each record is as it was at some moment of the iteration, and a record that exists throughout is yielded exactly
// once. The body of the loop may call the store, Commit too; so may a query's Filter.
//
// A record that is damaged, for whatever reason, stops nothing but what needs that record. Update, Image and Device return
// a *DamagedError, which matches ErrDamaged. A sequence yields a pair of a *DamagedError and a record of which nothing is
// set but the id, endpoint or sequence number, and what else is known of it for certain, such as the endpoint or the update
// that the query asked for, or that a device is Secured; then it goes on. Each query yields a damaged record that may be among what it selects, without
// asking its Filter, and counts it against its Limit. A [RemoveDamaged] removes such a record.
//
// Errors are matched with errors.Is against this package's sentinels; an error of the database itself is wrapped and
// matches none of them. A context that has ended before a call starts makes it fail without effect. One that ends while
// Commit runs leaves it unknown whether the commit took place: the caller reads before it repeats.
type Store interface {
	// Commit applies every change, in order, or none of them, and is durable when it returns nil. It returns the sequence
	// number of the last event that the journal then holds.
	//
	// Each change sees what those before it did. See each change's type for the errors that it may cause; ErrInvalid as
	// Normalize says; ErrDamaged where a change needs a record that is damaged, which is no matter to other commits. No
	// changes at all are no error: the call then only tells the number.
	Commit(ctx context.Context, changes ...Change) (uint64, error)

	// Update returns the update with the given id. ErrNotFound: there is none. ErrDamaged: it cannot be read.
	Update(ctx context.Context, id string) (Update, error)
	// Updates yields the updates that the query selects, by falling id, which is newest first, or by rising id if the
	// query says so.
	Updates(ctx context.Context, q UpdateQuery) iter.Seq2[Update, error]
	// Events yields the journal's lines that the query selects, in the order of their sequence numbers.
	Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error]

	// Image returns the image with the given id. ErrNotFound: there is none. ErrDamaged: it cannot be read.
	Image(ctx context.Context, id string) (Image, error)
	// Images yields the images that the query selects, ordered by id.
	Images(ctx context.Context, q ImageQuery) iter.Seq2[Image, error]

	// Device returns what is known of an endpoint. ErrNotFound: nothing is. ErrDamaged: it cannot be read.
	Device(ctx context.Context, endpoint string) (Device, error)
	// Devices yields the devices that the query selects, ordered by endpoint (as bytes).
	Devices(ctx context.Context, q DeviceQuery) iter.Seq2[Device, error]

	// Close releases what the store holds; calls that run are waited for, later ones fail with ErrClosed. To close again is
	// no error.
	Close() error
}

// UpdateQuery selects updates. The zero value selects all of them.
type UpdateQuery struct {
	Endpoint string // only this endpoint's; "" selects all
	Image    string // only those of this image; "" selects all
	Key      string // only the one with this idempotency key; "" selects all
	Active   bool   // only those that have not ended
	Oldest   bool   // oldest first instead of newest first

	// Labels selects only updates that have each of these labels, with these values; nil and empty select all.
	Labels map[string]string
	// Filter further selects, for what a back end has no index for; nil selects all.
	Filter func(Update) bool

	// After is the id of the last update of the page before, "" for the first page. Paging is stable: updates created
	// meanwhile neither repeat nor hide one. It need not exist any more.
	After string
	Limit int // at most so many; 0 means no limit
}

// EventQuery selects lines of the journal. The zero value selects all that are kept.
type EventQuery struct {
	After  uint64 // only events with a greater sequence number
	Update string // only this update's; "" selects all
	Limit  int    // at most so many; 0 means no limit
}

// ImageQuery selects images. The zero value selects all of them.
type ImageQuery struct {
	Name    string // only images of this name; "" selects all
	Version string // only images of this version; "" selects all
	SHA256  string // only images with these bytes; "" selects all
	After   string // id of the last image of the page before
	Limit   int    // at most so many; 0 means no limit
}

// DeviceQuery selects devices. The zero value selects all of them.
type DeviceQuery struct {
	Registered bool   // only those whose registration has not ended
	After      string // endpoint of the last device of the page before
	Limit      int    // at most so many; 0 means no limit
}
