// Package kv has the rules of a store for all back ends that are an ordered map of bytes: the
// checks of each change, the indexes, the length of the journal, and paging. A back end implements
// [Backend], in a hundred lines or so.
//
// A commit works on an overlay over the transaction. Its writes reach the transaction when all its
// changes have succeeded, so that commits can share a transaction, and one fsync, but each can fail
// alone. For a back end that pays for each place it changes, [Logged] keeps the latest writes in a
// log and in memory.
package kv

import "iter"

// A Table is one ordered map of a [Backend].
type Table uint8

// The tables. [join] makes compound keys, so that the ranges of two texts never overlap.
const (
	Meta           Table = iota // FormatKey, seqKey, deletedKey
	updates                     // id -> record
	updateKeys                  // idempotency key -> id
	oldKeys                     // idempotency key of a removed update -> time until which it is taken, id
	oldKeyTimes                 // that time, key -> mark
	byEndpoint                  // endpoint, id -> mark
	byImage                     // image, id -> mark
	byOutcome                   // outcome, id -> mark, of updates that have ended
	byEnd                       // outcome, time of the end and id -> mark
	byLabel                     // name, value, id -> mark
	counts                      // image, outcome -> number of updates
	active                      // id -> mark
	activeOf                    // endpoint -> id
	activeImages                // image, id -> mark
	events                      // seq of the first line -> run
	journal                     // update -> its runs, see journalIndex
	images                      // id -> record
	imageVersion                // name, version -> id
	imageDigest                 // digest, id -> mark
	devices                     // endpoint -> record, without the times of seen
	seen                        // endpoint -> sighting, if it has registered
	byFact                      // fact, value, endpoint -> mark; see factKey
	deviceCounts                // fact, value -> number of devices; withFact, allDevices -> number
	secured                     // endpoint -> mark, if its record says so, or did before it was damaged
	rollouts                    // id -> record
	activeRollouts              // id -> mark
	members                     // rollout, order and endpoint -> record
	memberNames                 // rollout, endpoint -> mark
	memberOrder                 // rollout, cursor -> mark
	rolloutEvents               // rollout, number -> line
	log                         // of the latest commits, see Logged

	Tables // how many there are
)

// FormatKey is the key of the format's number in Meta.
const FormatKey = "format"

// Keys of numbers in Meta.
var (
	seqKey     = []byte("seq")     // of the journal's last line
	deletedKey = []byte("deleted") // highest number of a line that was deleted
	appliedKey = []byte("applied") // of times that the log went into the tables
)

var tableNames = [Tables]string{"meta", "updates", "update_keys", "old_keys", "old_key_times", "updates_by_endpoint",
	"updates_by_image", "updates_by_outcome", "updates_by_end", "updates_by_label", "update_counts", "active", "active_by_endpoint", "active_by_image", "events", "journal", "images", "images_by_version",
	"images_by_digest", "devices", "devices_seen", "devices_by_fact", "device_counts", "secured", "rollouts", "active_rollouts", "members", "members_by_endpoint", "members_by_place", "rollout_events", "log"}

// String returns a name for the table in a database.
func (t Table) String() string { return tableNames[t] }

// Fill returns how full a back end leaves the pages of the table when it splits one. Where keys
// rise, pages stay as full as they are left, except that the index of a journal grows. Where they
// do not, many of a fleet come at once all the same, and so leave room only for what follows.
func (t Table) Fill() float64 {
	switch t {
	case log:
		return 1
	case rollouts, rolloutEvents, updates, events, byImage, byOutcome, byEnd, byLabel, active, activeImages:
		return 0.95
	}
	return 0.75
}

// A Reader reads the tables in a transaction. The slices are valid until it ends, and must not be
// changed.
type Reader interface {
	// Get returns the value, or nil.
	Get(t Table, key []byte) []byte
	// Ascend yields the entries whose key is at least from, by rising key.
	Ascend(t Table, from []byte) iter.Seq2[[]byte, []byte]
	// Descend yields the entries whose key is less than before, by falling key; a nil before means
	// from the last.
	Descend(t Table, before []byte) iter.Seq2[[]byte, []byte]
}

// A Writer also writes. It keeps the slices that it gets; values are not empty.
type Writer interface {
	Reader
	Put(t Table, key, value []byte) error
	Delete(t Table, key []byte) error
}

// A Backend runs transactions. Several Views may run at once; an Update runs alone. The writes of
// an Update are durable if it returns nil, and undone if it returns an error.
type Backend interface {
	View(fn func(Reader) error) error
	Update(fn func(Writer) error) error
	Close() error
}
