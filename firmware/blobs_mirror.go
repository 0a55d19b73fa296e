package firmware

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// mirrorTries is the number of failed streams after which a copy fails, with pauses of 1, 2 and 4 s
// between them. A stream that has moved bytes, and did not stall, starts the count again.
const mirrorTries = 4

// A mirror is a copy of a blob in a file. A goroutine fills it from the start while others read it.
// The last byte can be read once all bytes are there and have the right digest.
type mirror struct {
	r    *Repository
	img  Image
	file *os.File

	mu      sync.Mutex
	have    int64         // bytes from the start that are in the file
	digest  hash.Hash     // of these
	whole   bool          // all are there, with the right digest
	err     error         // of the run that has ended; nil during a run
	run     int           // number of the current run; older ones have no effect
	writer  int           // number of the current stream; older ones have no effect
	cancel  func()        // ends the run
	change  chan struct{} // closed when one of these changes
	waiters []mirrorWaiter
}

// A mirrorWaiter has a function to call once want bytes can be read, or when the run ends.
type mirrorWaiter struct {
	want int64
	fn   func(error)
}

// newMirror starts to copy an image.
func (r *Repository) newMirror(img Image) (*mirror, error) {
	file, err := os.CreateTemp(r.dir, uploadPattern)
	if err != nil {
		return nil, notStored(err)
	}
	_ = os.Remove(file.Name()) // so that a crash leaves no file; some systems refuse it
	m := &mirror{r: r, img: img, file: file, change: make(chan struct{}), err: errSuperseded, digest: sha256.New()}
	m.revive()
	return m, nil
}

// revive resumes a copy that has failed: where it stopped or, if its bytes were wrong, from the
// start.
func (m *mirror) revive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil || m.whole || errors.Is(m.err, os.ErrClosed) {
		return
	}
	if errors.Is(m.err, ErrDamaged) {
		m.have = 0
		m.digest.Reset()
	}
	m.err = nil
	m.run++
	run := m.run
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	go func() {
		defer cancel()
		err := m.copy(ctx, run)
		m.end(run, err)
	}()
}

// end records the result of a run.
func (m *mirror) end(run int, err error) {
	m.mu.Lock()
	if m.run != run {
		m.mu.Unlock()
		return
	}
	m.writer++ // an abandoned stream has no effect from now on
	m.whole, m.err = err == nil, err
	waiters := m.waiters
	m.waiters = nil
	m.changed()
	m.mu.Unlock()
	for _, w := range waiters {
		w.fn(err)
	}
}

// readable returns how many bytes from the start can be read. m.mu is held.
func (m *mirror) readable() int64 {
	if m.whole {
		return m.img.Size
	}
	return min(m.have, m.img.Size-1)
}

// changed wakes the goroutines that wait in readAt. m.mu is held.
func (m *mirror) changed() {
	close(m.change)
	m.change = make(chan struct{})
}

// errSuperseded ends a run or a stream that is no longer the current one.
var errSuperseded = errors.New("firmware: another copy has begun")

// copied returns how many bytes are in the file.
func (m *mirror) copied() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have
}

// copy copies the missing bytes and checks the digest. The error matches ErrDamaged if the blob is
// wrong.
func (m *mirror) copy(ctx context.Context, run int) error {
	damaged := func(problem string, args ...any) error {
		return fmt.Errorf("%w: image %s: its bytes %s", ErrDamaged, m.img.ID, fmt.Sprintf(problem, args...))
	}
	tries, pauses := 0, work.Backoff(0)
	for have := m.copied(); have < m.img.Size; {
		err := m.stream(ctx, run)
		before := have
		have = m.copied()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return damaged("are missing")
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case have > m.img.Size:
			return damaged("are more than %d", m.img.Size)
		case have == m.img.Size:
			continue
		case have > before && !errors.Is(err, errStalled):
			tries, pauses = 0, 0
		case err == nil && have == before:
			return damaged("are only %d", have)
		}
		if err == nil {
			err = fmt.Errorf("it ended after %d of %d bytes", have, m.img.Size)
		}
		if tries++; tries >= mirrorTries {
			return fmt.Errorf("firmware: reading image %s from the store of images: %w", m.img.ID, err)
		}
		m.r.log.Warn("an image is read again from where it broke off", "image", m.img.ID, "offset", have, "error", err)
		work.Sleep(ctx, pauses.Next(time.Second, time.Minute))
	}
	m.mu.Lock()
	digest := hex.EncodeToString(m.digest.Sum(nil))
	m.mu.Unlock()
	if digest != m.img.SHA256 {
		return damaged("have the digest %s", digest)
	}
	return nil
}

// stream opens the blob and copies bytes until it ends.
func (m *mirror) stream(ctx context.Context, run int) error {
	m.mu.Lock()
	if m.run != run {
		m.mu.Unlock()
		return errSuperseded
	}
	m.writer++
	writer, at := m.writer, m.have
	m.mu.Unlock()
	ctx, w := watched(ctx)
	defer w.stop()
	l := newHeld(func() {})
	defer l.release()
	return m.r.left.call(ctx, l, func() error {
		body, err := m.r.blobs.Open(ctx, m.img.SHA256, at)
		if err != nil {
			return err
		}
		if body == nil {
			return errors.New("firmware: the store of images gave neither bytes nor an error")
		}
		defer body.Close()
		_, err = io.Copy(mirrorWriter{m, writer, w}, io.LimitReader(body, m.img.Size+1-at))
		return err
	})
}

// A mirrorWriter is the writer of one stream.
type mirrorWriter struct {
	m      *mirror
	writer int
	w      *watch
}

func (w mirrorWriter) Write(p []byte) (int, error) {
	w.w.moved()
	m := w.m
	var begun []mirrorWaiter
	defer func() {
		for _, w := range begun {
			w.fn(nil)
		}
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writer != w.writer {
		return 0, errSuperseded
	}
	n, err := m.file.WriteAt(p, m.have)
	if err != nil {
		return n, notStored(err)
	}
	m.digest.Write(p)
	m.have += int64(n)
	m.changed()
	m.waiters = slices.DeleteFunc(m.waiters, func(w mirrorWaiter) bool {
		if w.want > m.readable() {
			return false
		}
		begun = append(begun, w)
		return true
	})
	return n, nil
}

// readAt is ReadAt with a context: it waits for missing bytes until ctx ends.
func (m *mirror) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	want := min(off+int64(len(b)), m.img.Size)
	for {
		m.mu.Lock()
		readable, err, change := m.readable(), m.err, m.change
		m.mu.Unlock()
		if want <= readable {
			return io.NewSectionReader(m.file, 0, m.img.Size).ReadAt(b, off)
		}
		if err != nil {
			return 0, err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// ReadAt implements io.ReaderAt.
func (m *mirror) ReadAt(b []byte, off int64) (int, error) {
	return m.readAt(context.Background(), b, off)
}

// there returns how many bytes from the start can be read.
func (m *mirror) there() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readable()
}

// ready reports whether the whole copy is there.
func (m *mirror) ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.whole
}

// whenThere calls fn once the first want bytes can be read, or with the error of the run if that
// ends first.
func (m *mirror) whenThere(want int64, fn func(error)) {
	m.mu.Lock()
	want = min(want, m.img.Size)
	there, err := m.readable() >= want, m.err
	if !there && err == nil {
		m.waiters = append(m.waiters, mirrorWaiter{want, fn})
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	if there {
		err = nil
	}
	fn(err)
}

// Close ends the copy and removes the file.
func (m *mirror) Close() error {
	m.mu.Lock()
	run := m.run
	m.mu.Unlock()
	m.end(run, os.ErrClosed)
	m.mu.Lock()
	m.run++
	cancel := m.cancel
	m.mu.Unlock()
	cancel()
	err := m.file.Close()
	_ = os.Remove(m.file.Name()) // if newMirror could not remove the open file
	return err
}
