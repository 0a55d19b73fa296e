package kv

import "iter"

// A Table is one ordered map of a [Backend].
type Table uint8

// The tables. Compound keys are made by [join], so that no text can reach into another's range.
const (
	Meta         Table = iota // FormatKey, "seq"
	updates                   // id -> record
	updateKeys                // idempotency key -> id
	byEndpoint                // endpoint, id -> mark
	byImage                   // image, id -> mark
	active                    // id -> mark
	activeOf                  // endpoint -> id
	activeImages              // image, id -> mark
	events                    // seq -> record
	journal                   // update, seq -> mark
	journalSize               // update -> lines kept, seq of the last line of the head
	images                    // id -> record
	imageVersion              // name, version -> id
	imageDigest               // digest, id -> mark
	devices                   // endpoint -> record
	secured                   // endpoint -> mark, where the record says so or did before it was damaged

	Tables // how many there are
)

// FormatKey is the key of the format's number in Meta.
const FormatKey = "format"

var tableNames = [Tables]string{"meta", "updates", "update_keys", "updates_by_endpoint", "updates_by_image", "active",
	"active_by_endpoint", "active_by_image", "events", "journal", "journal_size", "images", "images_by_version",
	"images_by_digest", "devices", "secured"}

// String returns the name under which a back end may keep the table.
func (t Table) String() string { return tableNames[t] }

// A Reader reads the tables in a transaction. The slices are valid until it ends, and must not be changed.
type Reader interface {
	// Get returns the value, or nil.
	Get(t Table, key []byte) []byte
	// Ascend yields the entries whose key is at least from, by rising key.
	Ascend(t Table, from []byte) iter.Seq2[[]byte, []byte]
	// Descend yields the entries whose key is less than before, by falling key; a nil before means from the last.
	Descend(t Table, before []byte) iter.Seq2[[]byte, []byte]
}

// A Writer also writes. It keeps the slices that it is given; values are not empty.
type Writer interface {
	Reader
	Put(t Table, key, value []byte) error
	Delete(t Table, key []byte) error
}

// A Backend runs transactions. View may run beside others; Update runs alone, and what it wrote is durable when it
// returns nil and gone when fn or it returns an error.
type Backend interface {
	View(fn func(Reader) error) error
	Update(fn func(Writer) error) error
	Close() error
}
