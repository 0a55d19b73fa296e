package bolt

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"
	bberrors "go.etcd.io/bbolt/errors"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// A backend keeps tables in one namespace of a file.
type backend struct {
	namespace []byte
	reopen    func() (bboltFile, error) // nil: the file is the caller's

	mu     sync.RWMutex // read-locked while db is in use
	db     bboltFile
	broken error // why writing has stopped for good

	reads reads
}

// create checks the format and makes the missing buckets. If none is missing, it writes nothing.
func (b *backend) create() error {
	complete := false
	err := b.view(func(btx *bbolt.Tx) error {
		space := btx.Bucket(b.namespace)
		complete = space != nil
		if have := formatIn(space); have != nil {
			if err := kv.CheckFormat(have); err != nil {
				return err
			}
		} else if b.reopen != nil && isForeign(btx) {
			return fmt.Errorf("%w: another program made it", ErrDamaged)
		}
		for t := range kv.Tables {
			complete = complete && space.Bucket([]byte(t.String())) != nil
		}
		return nil
	})
	if err != nil || complete {
		return err
	}
	return b.update(func(btx *bbolt.Tx) error {
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

// formatIn returns the number of the format of a namespace, or nil.
func formatIn(space *bbolt.Bucket) []byte {
	if space == nil {
		return nil
	}
	meta := space.Bucket([]byte(kv.Meta.String()))
	if meta == nil {
		return nil
	}
	return meta.Get([]byte(kv.FormatKey))
}

// isForeign reports whether a file has buckets, and no namespace among them.
func isForeign(btx *bbolt.Tx) bool {
	buckets, spaces := 0, 0
	_ = btx.ForEach(func(_ []byte, bucket *bbolt.Bucket) error { // ForEach returns what the function returns
		buckets++
		if formatIn(bucket) != nil {
			spaces++
		}
		return nil
	})
	return buckets > 0 && spaces == 0
}

func (b *backend) View(fn func(kv.Reader) error) error {
	return b.do(func() error { return guard(func() error { return b.read(fn) }) })
}

func (b *backend) Update(fn func(kv.Writer) error) error {
	return b.update(func(btx *bbolt.Tx) error { return fn(b.tx(btx)) })
}

func (b *backend) view(fn func(*bbolt.Tx) error) error {
	return b.do(func() error { return guard(func() error { return b.db.View(fn) }) })
}

func (b *backend) update(fn func(*bbolt.Tx) error) error {
	return b.do(func() error {
		if b.broken != nil {
			return b.broken
		}
		b.reads.begin()
		defer b.reads.done()
		err := guard(func() error { return b.db.Update(fn) })
		switch {
		case errors.Is(err, ErrDamaged):
			// A panic has interrupted bbolt: its state in memory must not reach the file.
			return &stoppedError{err}
		case disk.Full(err):
			return fmt.Errorf("%w: %w", store.ErrNoSpace, err)
		}
		return err
	})
}

// A stoppedError ends writing for good.
type stoppedError struct{ error }

func (e *stoppedError) Unwrap() error { return e.error }

// do runs fn with the file. When the file grows, bbolt maps it again; if that fails because the
// disk is full or memory is short, bbolt does not use the file any more. The file is complete, so
// do opens it again.
func (b *backend) do(fn func() error) error {
	run := func() error {
		b.mu.RLock()
		defer b.mu.RUnlock()
		return fn()
	}
	err := run()
	stopped, isStopped := errors.AsType[*stoppedError](err)
	isClosed := errors.Is(err, bberrors.ErrInvalidMapping) || errors.Is(err, bberrors.ErrDatabaseNotOpen)
	if !isStopped && (b.reopen == nil || !isClosed) {
		return err
	}
	b.mu.Lock()
	switch {
	case isStopped:
		b.broken = stopped.error
	case b.db.View(func(*bbolt.Tx) error { return nil }) != nil: // no other call has done it
		err = b.again()
	default:
		err = nil
	}
	b.mu.Unlock()
	if isStopped || err != nil {
		return err
	}
	return run()
}

// again opens the file again. The caller holds mu.
func (b *backend) again() error {
	b.reads.begin() // bbolt closes the file after the last transaction
	defer b.reads.done()
	if err := b.db.Close(); err != nil {
		return err
	}
	db, err := b.reopen()
	if err != nil {
		return err // the next call tries again
	}
	b.db = db
	return nil
}

// size returns the size of the file in bytes; 0 if that is not known.
func (b *backend) size() int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	info, err := os.Stat(b.db.Path())
	if err != nil {
		return 0
	}
	return info.Size()
}

// Close closes the file if Open has opened it. If a panic has interrupted bbolt, it may never
// release its locks; then Close closes only the file, so that others can open it.
func (b *backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads.begin()
	switch {
	case b.reopen == nil:
		b.release()
		return nil
	case b.broken != nil:
		return disk.CloseLocked(b.db.file)
	}
	return b.db.close()
}

// guard turns a panic of bbolt, or a fault in the memory that it has mapped, into an error. A
// damaged file causes both, and would otherwise end the process at every start.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return fn()
}

// taken has the namespaces of files that callers have opened. A store keeps its latest commits in
// memory, so that a second one of the same namespace would miss them.
var taken sync.Map // space -> nothing

type space struct {
	db        *bbolt.DB
	namespace string
}

// take reports whether no other store has the namespace, and takes it.
func (b *backend) take() bool {
	_, other := taken.LoadOrStore(space{b.db.DB, string(b.namespace)}, nil)
	return !other
}

func (b *backend) release() { taken.Delete(space{b.db.DB, string(b.namespace)}) }

func (b *backend) tx(btx *bbolt.Tx) *tx { return &tx{btx: btx, space: btx.Bucket(b.namespace)} }
