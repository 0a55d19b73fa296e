package firmware

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/store"
)

// Blobs stores the bytes of images: in a folder ([OpenFolder]), or elsewhere, such as in an object
// store. The name of a blob is the SHA-256 of its bytes, as 64 hexadecimal digits in lower case.
// Its bytes never change, so to put it again repairs it. RunBlobs of package firmwaretest is a test
// suite for implementations.
//
// The [Repository] calls Put and Delete for one digest one at a time; all other calls may be
// concurrent. A call must return soon after its ctx has ended. The Repository ends the ctx of a
// call that has moved no byte for a minute, abandons the call if it does not return even then, and
// makes no more calls while 64 abandoned ones have not returned.
type Blobs interface {
	// Put stores all of body under digest, and replaces a blob that is there. When it returns nil,
	// every later Open reads the new blob, also after a power failure. After an error, or a crash,
	// Open reads the blob from before, or all of body, or finds none: never a part. body is valid
	// until Put returns; it can be read several times, and at several offsets at once.
	Put(ctx context.Context, digest string, body *io.SectionReader) error
	// Open returns the bytes of a blob from offset on, which is at least 0 and less than the blob's
	// size. The caller reads from one goroutine, closes the reader, and ends ctx when it wants no
	// more bytes. If there is no blob the error matches fs.ErrNotExist; no other error does.
	Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
	// Delete removes a blob. It returns nil if there is none.
	Delete(ctx context.Context, digest string) error
}

// NewRepository returns a repository of images that has their bytes in blobs, and their records in
// s. Use blobs with one store, in one process.
//
// The repository copies an image to a file in RepositoryConfig.Spool before devices get it, once
// for all devices that get it at the same time, and checks its size and digest. A download by HTTP
// begins during the copy, and gets the last byte only after the digest has been checked; deliveries
// by CoAP wait for the whole copy. The error says which argument or field of config is invalid, and
// why.
func NewRepository(blobs Blobs, s store.Store, config RepositoryConfig) (*Repository, error) {
	if f, ok := blobs.(*folder); ok {
		return newRepository(f.dir, f.files, nil, s, config)
	}
	if blobs == nil {
		return nil, errors.New("firmware: NewRepository: blobs is nil")
	}
	if config.Spool == "" {
		config.Spool = os.TempDir()
	}
	return newRepository(config.Spool, disk.Files{}, blobs, s, config)
}

const (
	// blobStall is how long a call of Blobs may move no byte.
	blobStall = time.Minute
	// blobGrace is how long a call of Blobs may take to return after its context has ended.
	blobGrace = time.Second
	// maxLeft bounds the abandoned calls of Blobs.
	maxLeft = 64
)

// errStalled is why the context of a call of Blobs without progress ends.
var errStalled = fmt.Errorf("firmware: the store of images has moved no byte for %s", blobStall)

// A watch ends a context after blobStall without progress.
type watch struct {
	timer *time.Timer
	end   context.CancelCauseFunc
}

func watched(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{time.AfterFunc(blobStall, func() { cancel(errStalled) }), cancel}
	context.AfterFunc(ctx, func() { w.timer.Stop() })
	return ctx, w
}

// stop ends the watch and its context.
func (w *watch) stop() {
	w.timer.Stop()
	w.end(nil)
}

// moved records progress.
func (w *watch) moved() {
	if w.timer.Stop() {
		w.timer.Reset(blobStall)
	}
}

// A watchedReader records each read as progress.
type watchedReader struct {
	r io.ReaderAt
	w *watch
}

func (r watchedReader) ReadAt(b []byte, off int64) (int, error) {
	r.w.moved()
	return r.r.ReadAt(b, off)
}

// left counts the abandoned calls of Blobs.
type left struct{ atomic.Int32 }

// call runs fn in a goroutine and returns its error, or the cause of ctx if fn does not return in
// time. It holds l until fn has returned.
func (c *left) call(ctx context.Context, l *held, fn func() error) error {
	if n := c.Load(); n >= maxLeft {
		return fmt.Errorf("firmware: %d calls of the store of images have not returned", n)
	}
	const (
		running = iota
		returned
		leftBehind
	)
	var state atomic.Int32
	done := make(chan error, 1)
	l.keep()
	go func() {
		defer l.release()
		err := errors.New("firmware: the store of images panicked")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("firmware: the store of images panicked: %v", p)
			}
			if !state.CompareAndSwap(running, returned) {
				c.Add(-1)
			}
			done <- err
		}()
		err = fn()
	}()
	select {
	case err := <-done:
		return cause(ctx, err)
	case <-ctx.Done():
	}
	grace := time.NewTimer(blobGrace)
	defer grace.Stop()
	select {
	case err := <-done:
		return cause(ctx, err)
	case <-grace.C:
	}
	c.Add(1)
	if !state.CompareAndSwap(running, leftBehind) {
		c.Add(-1)
	}
	return context.Cause(ctx)
}

// cause returns the cause of ctx if err is only the error of ctx, else err.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// held is a lock with several holders. The last release unlocks it.
type held struct {
	users  atomic.Int32
	last   func() // what the last holder does before it unlocks; set by a holder, nil for nothing
	unlock func()
}

func (h *held) keep() { h.users.Add(1) }

func (h *held) release() {
	if h.users.Add(-1) > 0 {
		return
	}
	if last := h.last; last != nil {
		h.last = nil
		h.keep()
		last()
		h.release()
		return
	}
	h.unlock()
}

// shared reports whether an abandoned call holds the lock too.
func (h *held) shared() bool { return h.users.Load() > 1 }

// lock locks a digest; the caller releases it. It fails only if ctx ends first.
func (r *Repository) lock(ctx context.Context, digest string) (*held, error) {
	unlock, err := r.digests.LockContext(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("firmware: waiting for the image's bytes: %w", err)
	}
	return newHeld(unlock), nil
}

// newHeld returns a lock with one holder.
func newHeld(unlock func()) *held {
	h := &held{unlock: unlock}
	h.keep()
	return h
}

// putBlob stores a file of size bytes.
func (r *Repository) putBlob(ctx context.Context, l *held, digest string, file io.ReaderAt, size int64) error {
	ctx, w := watched(ctx)
	defer w.stop()
	body := io.NewSectionReader(watchedReader{file, w}, 0, size)
	if err := r.left.call(ctx, l, func() error { return r.blobs.Put(ctx, digest, body) }); err != nil {
		return notStored(err)
	}
	return nil
}

func (r *Repository) deleteBlob(ctx context.Context, l *held, digest string) error {
	ctx, w := watched(ctx)
	defer w.stop()
	return r.left.call(ctx, l, func() error { return r.blobs.Delete(ctx, digest) })
}
