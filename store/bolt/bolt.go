package bolt

import (
	"errors"
	"fmt"
	"iter"
	"time"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// ErrLocked is the category of Open's error when another process has the file open.
var ErrLocked = errors.New("store: file is in use by another process")

// DefaultNamespace is the namespace of a store that was opened without [Namespace].
const DefaultNamespace = "otago"

// A Store is a [store.Store] in one namespace of a bbolt file.
type Store struct{ store.Store }

// An Option changes how a store is opened.
type Option interface{ apply(*options) }

type options struct {
	namespace string
	wait      time.Duration
}

type option func(*options)

func (o option) apply(opts *options) { o(opts) }

// Namespace keeps the records apart from those of other namespaces in the same file: a tenant's, for example. Its name
// must not be empty. The default is DefaultNamespace.
func Namespace(name string) Option { return option(func(o *options) { o.namespace = name }) }

// LockWait is how long Open waits for another process to close the file; the default is one second.
func LockWait(d time.Duration) Option { return option(func(o *options) { o.wait = d }) }

// Open opens the file, and creates it, readable by its owner only, if there is none. Closing the store closes the file.
// The error matches ErrLocked when another process, or this one, has the file open.
func Open(path string, opts ...Option) (*Store, error) {
	o := apply(opts)
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      max(o.wait, time.Millisecond), // to bbolt, 0 means for ever
		FreelistType: bbolt.FreelistMapType,
	})
	switch {
	case errors.Is(err, bberrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case err != nil:
		return nil, fmt.Errorf("store: opening %s: %w", path, err)
	}
	s, err := open(db, o.namespace, db.Close)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("store: opening %s: %w", path, err)
	}
	return s, nil
}

// New returns a store in a file that the caller has opened, shares with others, and closes after the store.
func New(db *bbolt.DB, opts ...Option) (*Store, error) {
	return open(db, apply(opts).namespace, func() error { return nil })
}

func apply(opts []Option) options {
	o := options{namespace: DefaultNamespace, wait: time.Second}
	for _, opt := range opts {
		opt.apply(&o)
	}
	return o
}

func open(db *bbolt.DB, namespace string, closeFile func() error) (*Store, error) {
	if namespace == "" {
		return nil, errors.New("store: namespace is empty")
	}
	b := &backend{db: db, namespace: []byte(namespace), close: closeFile}
	if err := b.create(); err != nil {
		return nil, err
	}
	s, err := kv.New(b, true)
	if err != nil {
		return nil, err
	}
	return &Store{s}, nil
}

type backend struct {
	db        *bbolt.DB
	namespace []byte
	close     func() error
}

// create makes the buckets that are not there; where all are, it writes nothing.
func (b *backend) create() error {
	complete := false
	err := b.db.View(func(btx *bbolt.Tx) error {
		space := btx.Bucket(b.namespace)
		complete = space != nil
		for t := range kv.Tables {
			complete = complete && space.Bucket([]byte(t.String())) != nil
		}
		return nil
	})
	if err != nil || complete {
		return err
	}
	return b.db.Update(func(btx *bbolt.Tx) error {
		space, err := btx.CreateBucketIfNotExists(b.namespace)
		if err != nil {
			return err
		}
		for t := range kv.Tables {
			if _, err := space.CreateBucketIfNotExists([]byte(t.String())); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *backend) View(fn func(kv.Reader) error) error {
	return b.db.View(func(btx *bbolt.Tx) error { return fn(b.tx(btx)) })
}

func (b *backend) Update(fn func(kv.Writer) error) error {
	return b.db.Update(func(btx *bbolt.Tx) error { return fn(b.tx(btx)) })
}

func (b *backend) Close() error { return b.close() }

func (b *backend) tx(btx *bbolt.Tx) *tx { return &tx{space: btx.Bucket(b.namespace)} }

// A tx finds a table's bucket once.
type tx struct {
	space  *bbolt.Bucket
	tables [kv.Tables]*bbolt.Bucket
}

func (t *tx) table(name kv.Table) *bbolt.Bucket {
	if t.tables[name] == nil {
		t.tables[name] = t.space.Bucket([]byte(name.String()))
	}
	return t.tables[name]
}

func (t *tx) Get(name kv.Table, key []byte) []byte { return t.table(name).Get(key) }

func (t *tx) Put(name kv.Table, key, value []byte) error { return t.table(name).Put(key, value) }

func (t *tx) Delete(name kv.Table, key []byte) error { return t.table(name).Delete(key) }

func (t *tx) Ascend(name kv.Table, from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		c := t.table(name).Cursor()
		for key, value := c.Seek(from); key != nil; key, value = c.Next() {
			if !yield(key, value) {
				return
			}
		}
	}
}

func (t *tx) Descend(name kv.Table, before []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		c := t.table(name).Cursor()
		var key, value []byte
		if before == nil {
			key, value = c.Last()
		} else if key, _ = c.Seek(before); key != nil {
			key, value = c.Prev()
		} else {
			key, value = c.Last()
		}
		for ; key != nil; key, value = c.Prev() {
			if !yield(key, value) {
				return
			}
		}
	}
}
