package bolt

import (
	"errors"
	"io/fs"
	"iter"
	"time"

	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// The categories of Open's errors, beside those of package store.
var (
	// ErrLocked: another process has the file open, or this one.
	ErrLocked = errors.New("store: file is in use by another process")
	// ErrDamaged: the file is no database, or what it has does not fit together: it was cut, for example. Open has changed
	// nothing in it. Commits and queries have this error too when they meet such a part of it later.
	ErrDamaged = errors.New("store: file is damaged, or no database")
)

// DefaultNamespace is the namespace of a store that was opened without [Namespace].
const DefaultNamespace = "otago"

// A Store is a [store.Store] in one namespace of a bbolt file.
type Store struct {
	store.Store
	backend *backend
}

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

// Open opens the file. If there is none it makes one, readable by its owner only: under another name, which it exchanges
// for path when all of it is durable, so that no half of a database is ever found. Closing the store closes the file.
//
// The error matches ErrLocked when another process, or this one, has the file open; ErrDamaged when there is a file, but no
// database that is whole, not even an empty one; store.ErrNoSpace when the disk is full.
func Open(path string, opts ...Option) (*Store, error) {
	o := apply(opts)
	if o.namespace == "" {
		return nil, errNamespace
	}
	db, err := openFile(path, o.wait)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path, o); err == nil {
			db, err = openFile(path, o.wait)
		}
	}
	if err != nil {
		return nil, explain(path, err)
	}
	b := &backend{db: db, namespace: []byte(o.namespace), reopen: func() (bboltFile, error) { return openFile(path, o.wait) }}
	s, err := open(b)
	if err != nil {
		return nil, explain(path, errors.Join(err, b.Close()))
	}
	return s, nil
}

// New returns a store in a file that the caller has opened, shares with others, and closes after the store. The caller has
// made sure that the file is whole: [Open] does.
func New(db *bbolt.DB, opts ...Option) (*Store, error) {
	o := apply(opts)
	if o.namespace == "" {
		return nil, errNamespace
	}
	return open(&backend{db: bboltFile{DB: db}, namespace: []byte(o.namespace)})
}

var errNamespace = errors.New("store: namespace is empty")

func apply(opts []Option) options {
	o := options{namespace: DefaultNamespace, wait: time.Second}
	for _, opt := range opts {
		opt.apply(&o)
	}
	return o
}

func open(b *backend) (*Store, error) {
	if err := b.create(); err != nil {
		return nil, err
	}
	s, err := kv.New(b, true)
	if err != nil {
		return nil, err
	}
	return &Store{s, b}, nil
}

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
