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

// Blobs keeps the bytes of images: in a folder ([OpenFolder]), or elsewhere, such as in an object
// store. A blob is named by the SHA-256 of its bytes, as 64 hexadecimal digits in lower case. Its
// bytes never change, so to put it again repairs it. Package firmwaretest has a suite that every
// implementation passes (RunBlobs).
//
// Put and Delete are called for one digest one after the other, all else from several goroutines. A
// call returns soon after its ctx has ended. The [Repository] ends the ctx of a call that has moved
// no byte for a minute, goes on without a call that does not return even then, and makes no more
// calls while 64 of these have not returned.
type Blobs interface {
	// Put stores all of body under digest, in place of what is there. When it returns nil the blob
	// survives a failure of power, and is what every later Open reads. After an error, or a crash,
	// Open reads what was there before, or all of body, or reports that there is nothing: never a
	// part. body is valid until Put returns; it can be read several times, and at several offsets
	// at once.
	Put(ctx context.Context, digest string, body *io.SectionReader) error
	// Open returns the bytes of a blob from offset on, which is at least 0 and less than their
	// number. The caller reads them from one goroutine, ends ctx when it wants no more of them, and
	// closes them. A blob that is not there is an error that matches fs.ErrNotExist, and no other
	// error does.
	Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error)
	// Delete removes a blob. One that is not there is no error.
	Delete(ctx context.Context, digest string) error
}

// NewRepository returns a repository of images whose bytes are in blobs, and whose records are in
// s. Blobs belong to one store and one process.
//
// The repository copies an image to a file in RepositoryConfig.Spool before a device gets it, once
// for however many devices get it at the same time, and checks its size and digest. A download by
// HTTP begins while the copy is made, and gets the last byte only when the digest is right;
// deliveries by CoAP wait for the whole copy. The error says what of cfg cannot work.
func NewRepository(blobs Blobs, s store.Store, cfg RepositoryConfig) (*Repository, error) {
	if f, ok := blobs.(*folder); ok {
		return newRepository(f.dir, f.files, nil, s, cfg)
	}
	if blobs == nil {
		return nil, errors.New("firmware: a Repository needs Blobs")
	}
	if cfg.Spool == "" {
		cfg.Spool = os.TempDir()
	}
	return newRepository(cfg.Spool, disk.Files{}, blobs, s, cfg)
}

const (
	// blobStall is how long a call of Blobs may move no byte.
	blobStall = time.Minute
	// blobGrace is how long a call of Blobs may take to return when its context has ended.
	blobGrace = time.Second
	// maxLeft bounds the calls of Blobs that were left behind.
	maxLeft = 64
)

// errStalled ends a call of Blobs that does nothing.
var errStalled = fmt.Errorf("firmware: the store of images has moved no byte for %s", blobStall)

// A watch ends a context when nothing has happened for blobStall.
type watch struct{ timer *time.Timer }

func watched(ctx context.Context) (context.Context, *watch) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{time.AfterFunc(blobStall, func() { cancel(errStalled) })}
	context.AfterFunc(ctx, func() { w.timer.Stop() })
	return ctx, w
}

// moved says that something has happened.
func (w *watch) moved() {
	if w.timer.Stop() {
		w.timer.Reset(blobStall)
	}
}

// A watchedReader says when it is read.
type watchedReader struct {
	r io.ReaderAt
	w *watch
}

func (r watchedReader) ReadAt(b []byte, off int64) (int, error) {
	r.w.moved()
	return r.r.ReadAt(b, off)
}

// left counts the calls of Blobs that were left behind.
type left struct{ atomic.Int32 }

// call runs fn in a goroutine, holds l until fn has returned, and returns its error, or that of ctx
// if fn does not return.
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

// cause returns why a call ended, where it only says that its context did.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// held is a lock that several goroutines share: it ends with the last of them.
type held struct {
	users  atomic.Int32
	unlock func()
}

func (h *held) keep() { h.users.Add(1) }

func (h *held) release() {
	if h.users.Add(-1) == 0 {
		h.unlock()
	}
}

// lock locks a digest for the caller, who releases it. The error is that ctx has ended before.
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
	defer w.timer.Stop()
	body := io.NewSectionReader(watchedReader{file, w}, 0, size)
	if err := r.left.call(ctx, l, func() error { return r.blobs.Put(ctx, digest, body) }); err != nil {
		return notStored(err)
	}
	return nil
}

// deleteBlob removes a blob.
func (r *Repository) deleteBlob(ctx context.Context, l *held, digest string) error {
	ctx, w := watched(ctx)
	defer w.timer.Stop()
	return r.left.call(ctx, l, func() error { return r.blobs.Delete(ctx, digest) })
}
