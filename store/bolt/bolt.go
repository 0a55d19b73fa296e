// Package bolt keeps a store in one file, with bbolt. A program with nothing but a disk needs no
// other database.
//
//	db, err := bolt.Open("ota.db", bolt.Config{})
//	if err != nil {
//		return err
//	}
//	defer db.Close()
//
// One process at a time has the file open; [Open] waits a little for its lock. Commits that come
// together share a transaction and its fsync. If the process dies at any moment, the file has all
// commits that returned, and perhaps some that had not returned yet. After such an end Open reads
// the whole file, to find its free pages; after [Store.Close] it does not.
//
// A damaged file is refused with [ErrDamaged] and not changed: replace it by a copy, made while no
// process had it open. A commit that finds the disk full fails with store.ErrNoSpace; the store
// keeps working, and accepts commits when there is room again.
//
// # The file
//
// Each namespace is a bucket, with a bucket for each table and index in it. A commit appends to the
// bucket "log", and is kept in memory: so it changes few pages, however many records it has. When
// the log has 4 MiB, and when the store is closed, its latest values go into the other buckets.
//
// A record is a byte with the number of its format, a checksum, and the fields of a struct, by
// number. A later version of this module may add fields without a new number. A file with another
// number is refused with store.ErrFormat.
package bolt

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"time"

	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// The categories of Open's errors, in addition to those of package store.
var (
	// ErrLocked: another process has the file open, or this one.
	ErrLocked = errors.New("bolt: the file is open already")
	// ErrDamaged: the file is no database of this package, or it is incomplete or inconsistent.
	// Open changes nothing in it. Commits and queries have this error too if they meet a damaged
	// page later.
	ErrDamaged = errors.New("bolt: file is damaged, or no database")
)

// DefaultNamespace is the namespace of a store if [Config.Namespace] is empty.
const DefaultNamespace = "otago"

// A Store is a [store.Store] and a [store.Rollouts] in one namespace of a bbolt file.
type Store struct {
	store.Store
	store.Rollouts
	backend *backend
	logged  kv.Backend
	kv      *kv.Store
}

// Report implements store.Reporter. Bytes is the size of the file.
func (s *Store) Report(context.Context) store.Report {
	r := s.kv.Report()
	r.Kind, r.Bytes = "bolt", s.backend.size()
	return r
}

// Config says how to open a store. The zero Config works.
type Config struct {
	// Namespace keeps the records apart from those of other namespaces in the same file, such as
	// those of another tenant. Default: DefaultNamespace.
	Namespace string
	// LockWait is how long Open waits for another process to close the file. Default: one second.
	LockWait time.Duration
	// Compact makes Open copy the records into a new file, which takes the place of the old one,
	// so that the room of deleted records goes back to the disk. Meanwhile the disk needs room for
	// both; without it Open fails with store.ErrNoSpace, and the old file is as it was. [New]
	// ignores it. Default: the file keeps its size, and new records use the room.
	Compact bool
}

func (c Config) namespace() []byte { return []byte(cmp.Or(c.Namespace, DefaultNamespace)) }

// Open opens the file. If there is none, it makes one that only its owner can read. It makes it
// under another name, and renames it to path when the file is durable, so that a crash leaves no
// incomplete file at path. Closing the store closes the file.
//
// The error matches ErrLocked if another process, or this one, has the file open; ErrDamaged if the
// file is no complete database, even if it is empty; store.ErrFormat if another version of this
// module wrote it; store.ErrNoSpace if the disk is full. Open then has changed nothing in the file.
func Open(path string, config Config) (*Store, error) {
	config.LockWait = cmp.Or(config.LockWait, time.Second)
	db, err := openFile(path, config.LockWait)
	if errors.Is(err, fs.ErrNotExist) {
		if err = create(path, config); err == nil {
			db, err = openFile(path, config.LockWait)
		}
	}
	if err == nil && config.Compact {
		if err = compact(path, db); err == nil {
			db, err = openFile(path, config.LockWait)
		}
	}
	if err != nil {
		return nil, explain(path, err)
	}
	b := &backend{db: db, namespace: config.namespace(), reopen: func() (bboltFile, error) { return openFile(path, config.LockWait) }}
	s, err := open(b)
	if err != nil {
		return nil, explain(path, errors.Join(err, b.db.Close())) // b.Close would write
	}
	return s, nil
}

// New returns a store in a file that the caller has opened, may share with stores of other
// namespaces, and closes after them. The caller makes sure that the file is complete, as [Open]
// does. LockWait is unused.
//
// The error matches ErrLocked if another store, which is not closed, has the namespace of db.
func New(db *bbolt.DB, config Config) (*Store, error) {
	b := &backend{db: bboltFile{DB: db}, namespace: config.namespace()}
	if !b.take() {
		return nil, fmt.Errorf("%w: namespace %q", ErrLocked, b.namespace)
	}
	s, err := open(b)
	if err != nil {
		b.release()
	}
	return s, err
}

func open(b *backend) (*Store, error) {
	if err := b.create(); err != nil {
		return nil, err
	}
	logged, err := kv.Logged(b)
	if err != nil {
		return nil, err
	}
	s, err := kv.New(logged, true)
	if err != nil {
		return nil, err
	}
	return &Store{s, s, b, logged, s}, nil
}

// A tx keeps the buckets of the tables, and a cursor for each.
type tx struct {
	btx     *bbolt.Tx
	space   *bbolt.Bucket
	tables  [kv.Tables]*bbolt.Bucket
	cursors [kv.Tables]*bbolt.Cursor
}

func (t *tx) table(name kv.Table) *bbolt.Bucket {
	if t.tables[name] == nil {
		t.tables[name] = t.space.Bucket([]byte(name.String()))
		t.tables[name].FillPercent = name.Fill()
	}
	return t.tables[name]
}

// Get seeks with a cursor that earlier calls have used: a bucket would make one each time.
func (t *tx) Get(name kv.Table, key []byte) []byte {
	if t.cursors[name] == nil {
		t.cursors[name] = t.table(name).Cursor()
	}
	if found, value := t.cursors[name].Seek(key); bytes.Equal(found, key) {
		return value
	}
	return nil
}

func (t *tx) Put(name kv.Table, key, value []byte) error { return t.table(name).Put(key, value) }

func (t *tx) Delete(name kv.Table, key []byte) error { return t.table(name).Delete(key) }

func (t *tx) Clear(name kv.Table) error {
	if err := t.space.DeleteBucket([]byte(name.String())); err != nil {
		return err
	}
	t.tables[name], t.cursors[name] = nil, nil
	_, err := t.space.CreateBucket([]byte(name.String()))
	return err
}

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
