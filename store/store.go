// Package store says what a firmware campaign must remember, and how a program asks a database to
// remember it.
//
// The records are plain: an [Update] is one image on its way to one endpoint, an [Image] is one
// version of firmware, a [Device] is what is known of one endpoint, and an [Event] is a line of the
// journal of an update. A [Store] keeps the records of one namespace (one tenant). One method
// writes, [Store.Commit]; the others read.
//
// Changes that belong together are one commit: a step of an update and the journal lines that
// explain it become durable together or not at all. A store enforces two rules, because only it can
// when many callers write at once: an endpoint has at most one active update ([ErrActive]), and an
// image that an active update needs cannot be deleted ([ErrInUse]).
//
// If a record cannot be read ([ErrDamaged]), only calls that need it fail. [RemoveDamaged] removes
// it.
//
// Package memory keeps records for tests and trials, package bolt keeps them in one file. Another
// back end is one type that implements Store and passes storetest.Run; the example of package
// storetest is one. This package and all that it imports know no network.
package store

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A Store keeps the records of one namespace. It is safe for concurrent use. So are the sequences
// that it returns: each range over one asks the database again.
//
// Records pass by value. Slices and maps in them belong to the receiver: a store copies what it
// keeps, and the caller owns what a store returns. Text and times come back as [Normalize] leaves
// them.
//
// A sequence is no snapshot: each record is as it was at some moment of the iteration, and a record
// that exists throughout is yielded exactly once. It yields an error at most once, as its last
// pair, except for damaged records. The body of the loop may call the store, Commit too; so may the
// Filter of a query.
//
// Only calls that need a damaged record fail. Update, Image and Device return a *DamagedError. A
// sequence yields a *DamagedError with a record that has nothing but its id, endpoint or sequence
// number, and with what else is certain: the endpoint or update that the query names, or that a
// device is Secured. Then it goes on. A query yields a damaged record if it may belong to the
// selected ones, without calling Filter, and counts it against Limit.
//
// A query with a Limit asks for a page, which takes milliseconds, however many records there are:
// it passes over at most [MaxSkipped] records that it does not select. If a page ends for that
// reason, its last pair is ErrShort and a record that has nothing but its id or endpoint, and with
// [UpdateQuery].ByEnd its outcome and the time of its end. The next page follows After that key.
//
// Errors match the variables of this package by errors.Is; an error of the database matches none. A
// call whose context has ended before it starts fails without effect. If the context ends while
// Commit runs, the commit may or may not have taken place: the caller reads before it repeats.
type Store interface {
	// Commit applies all changes, in order, or none, and is durable when it returns nil. It returns
	// the sequence number of the last event of the journal.
	//
	// Each change sees those before it. The errors are those of each change's type; ErrInvalid as
	// Normalize says; ErrDamaged if a change needs a damaged record. A Commit without changes only
	// returns the number.
	Commit(ctx context.Context, changes ...Change) (uint64, error)

	// Update returns the update with this id, or ErrNotFound, or ErrDamaged.
	Update(ctx context.Context, id string) (Update, error)
	// Updates yields the updates that the query selects, by falling id, which is newest first, or
	// by rising id if q.Oldest is set.
	Updates(ctx context.Context, q UpdateQuery) iter.Seq2[Update, error]
	// Events yields the lines of the journal that the query selects, by rising sequence number.
	Events(ctx context.Context, q EventQuery) iter.Seq2[Event, error]
	// Span says which lines the journal of all updates has.
	Span(ctx context.Context) (Span, error)
	// Counts returns how many updates to the image the store has, by outcome, or of all images if
	// image is "". It is ordered by image and outcome, and has no counts of zero. Each commit
	// changes the counts with the updates, so that a call reads no update.
	Counts(ctx context.Context, image string) ([]Count, error)

	// Image returns the image with this id, or ErrNotFound, or ErrDamaged.
	Image(ctx context.Context, id string) (Image, error)
	// Images yields the images that the query selects, by rising id.
	Images(ctx context.Context, q ImageQuery) iter.Seq2[Image, error]

	// Device returns what is known of an endpoint, or ErrNotFound, or ErrDamaged.
	Device(ctx context.Context, endpoint string) (Device, error)
	// Devices yields the devices that the query selects, by rising endpoint (as bytes).
	Devices(ctx context.Context, q DeviceQuery) iter.Seq2[Device, error]
	// DeviceCounts returns how many devices the store has, and how many of them have each version
	// and each model. Each commit changes the counts with the devices, so that a call reads no
	// device.
	DeviceCounts(ctx context.Context) (DeviceCounts, error)

	// Close waits for running calls and releases what the store holds. Later calls fail with
	// ErrClosed; a second Close returns nil.
	Close() error
}

// UpdateQuery selects updates. The zero value selects all of them.
type UpdateQuery struct {
	Endpoint string // only updates of this endpoint; "" selects all
	Image    string // only updates to this image; "" selects all
	Key      string // only the update with this idempotency key; "" selects all
	Active   bool   // only updates that have not ended
	Oldest   bool   // oldest first instead of newest first

	// Outcome selects only updates that ended with it. The zero value selects all.
	Outcome fsm.Outcome

	// ByEnd orders updates by the time of their end, and then by id, instead of by id alone: the
	// latest first, or with Oldest the earliest. It needs an Outcome; without one no update is
	// selected.
	ByEnd bool

	// Labels selects only updates that have each of these labels, with these values. Empty selects
	// all.
	Labels map[string]string
	// Filter selects further, by conditions for which a back end has no index. Nil selects all.
	Filter func(Update) bool

	// Skip passes over so many of the first updates that the query selects, before Filter, without
	// reading their records.
	Skip int
	// After is the id of the last update of the page before, "" for the first page. It may have
	// been deleted. Updates that are created meanwhile neither repeat nor hide one.
	After string
	// AfterEnd is when that update ended, as [Update.End] says; only with ByEnd.
	AfterEnd time.Time
	Limit    int // how many at most; 0 means no limit
}

// EventQuery selects lines of the journal. The zero value selects all that are kept.
type EventQuery struct {
	After  uint64 // only events with a greater sequence number
	Update string // only events of this update; "" selects all
	Limit  int    // how many at most; 0 means no limit
}

// ImageQuery selects images. The zero value selects all of them.
type ImageQuery struct {
	Name    string // only images of this name; "" selects all
	Version string // only images of this version; "" selects all
	SHA256  string // only images with these bytes; "" selects all
	After   string // id of the last image of the page before
	Limit   int    // how many at most; 0 means no limit
}

// DeviceQuery selects devices. The zero value selects all of them.
type DeviceQuery struct {
	Registered bool // only devices whose registration has not ended

	// Labels selects only devices that have each of these labels, with these values. Empty selects
	// all.
	Labels map[string]string
	// Versions selects only devices whose Firmware has one of these versions. Empty selects all.
	Versions []string
	// Only devices that have these Facts; "" selects all.
	Manufacturer, Model, Hardware string
	// Filter selects further. Nil selects all.
	Filter func(Device) bool

	After string // endpoint of the last device of the page before
	Limit int    // how many at most; 0 means no limit
}

// Selects reports whether the query selects a device, apart from Filter and After, for back ends
// and for those who know a device already.
func (q *DeviceQuery) Selects(d *Device) bool {
	for name, value := range q.Labels {
		if has, ok := d.Labels[name]; !ok || has != value {
			return false
		}
	}
	return (q.Manufacturer == "" || q.Manufacturer == d.Facts.Manufacturer) &&
		(q.Model == "" || q.Model == d.Facts.Model) &&
		(q.Hardware == "" || q.Hardware == d.Facts.Hardware) &&
		(len(q.Versions) == 0 || slices.Contains(q.Versions, d.Firmware.Version)) &&
		(!q.Registered || d.Registration.Ended.IsZero())
}

// MaxSkipped is how many records a page passes over that its query does not select.
const MaxSkipped = 1000

// DeviceCounts says how many devices a store has. Each list is ordered by value, and has no counts
// of zero, no empty values, and at most [MaxDeviceCounts] values: the lowest ones.
type DeviceCounts struct {
	Devices     uint64        // all of them
	WithVersion uint64        // those that have a Firmware.Version
	Versions    []DeviceCount // by Firmware.Version
	WithModel   uint64        // those that have a Facts.Model
	Models      []DeviceCount // by Facts.Model
}

// A DeviceCount says how many devices have one value.
type DeviceCount struct {
	Value   string
	Devices uint64
}

// MaxDeviceCounts limits the lists of [DeviceCounts], since values come from devices.
const MaxDeviceCounts = 1000

// A Span says which lines the journal of all updates has. A follower that has seen the lines up to
// number n may have missed some if n is less than Deleted, and comes from another store, or from a
// later state of this one, if n is greater than Last.
type Span struct {
	First   uint64 // number of the oldest line; 0 if there is none
	Last    uint64 // number of the newest line that there ever was
	Deleted uint64 // highest number of a line that was deleted; 0 if none was
}

// A Count says how many updates to one image ended with one outcome.
type Count struct {
	Image   string
	Outcome fsm.Outcome // OutcomeNone for active updates
	Updates uint64
}
