package firmwaretest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware"
)

// RunBlobs checks in subtests that an implementation of firmware.Blobs does what its documentation
// says. open returns empty blobs; RunBlobs may call it often.
func RunBlobs(t *testing.T, open func(t testing.TB) firmware.Blobs) {
	for _, c := range blobChecks {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), blobTime)
			defer cancel()
			if err := c.check(ctx, open(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// blobTime limits a check.
const blobTime = time.Minute

// blobChecks are the subtests of RunBlobs.
var blobChecks = []struct {
	name  string
	check func(context.Context, firmware.Blobs) error
}{
	{"Open reads what Put stored", func(ctx context.Context, b firmware.Blobs) error {
		for _, size := range []int{1, 2, 1023, 1024, 65_537, 3_000_001} {
			if err := roundTrip(ctx, b, content(byte(size), size)); err != nil {
				return fmt.Errorf("%d bytes: %w", size, err)
			}
		}
		return nil
	}},
	{"Open begins at an offset", func(ctx context.Context, b firmware.Blobs) error {
		data := content(1, 100_000)
		if err := putBlob(ctx, b, data); err != nil {
			return err
		}
		for _, offset := range []int64{0, 1, 1024, 65_535, 99_999} {
			if err := expect(ctx, b, data, offset); err != nil {
				return err
			}
		}
		return nil
	}},
	{"Put reads its body at offsets, and again", func(ctx context.Context, b firmware.Blobs) error {
		data := content(2, 50_000)
		body := io.NewSectionReader(bytes.NewReader(append([]byte("before"), append(data, "after"...)...)), 6, int64(len(data)))
		if err := b.Put(ctx, digest(data), body); err != nil {
			return fmt.Errorf("Put: %w", err)
		}
		return expect(ctx, b, data, 0)
	}},
	{"Put again replaces", func(ctx context.Context, b firmware.Blobs) error {
		right, wrong := content(3, 5000), content(4, 6000)
		// Damaged bytes under the right digest.
		if err := b.Put(ctx, digest(right), section(wrong)); err != nil {
			return fmt.Errorf("Put: %w", err)
		}
		if err := putBlob(ctx, b, right); err != nil {
			return fmt.Errorf("once more: %w", err)
		}
		return expect(ctx, b, right, 0)
	}},
	{"Put whose body fails leaves no part", func(ctx context.Context, b firmware.Blobs) error {
		data := content(5, 200_000)
		body := io.NewSectionReader(failing{bytes.NewReader(data), 150_000}, 0, int64(len(data)))
		if err := b.Put(ctx, digest(data), body); !errors.Is(err, errBody) {
			return fmt.Errorf("Put of a body that fails returned %v, and not the body's error", err)
		}
		if err := absent(ctx, b, digest(data)); err != nil {
			return err
		}
		if err := putBlob(ctx, b, data); err != nil {
			return err
		}
		if b.Put(ctx, digest(data), body) == nil {
			return errors.New("Put of a body that fails returned nil over another blob")
		}
		return expect(ctx, b, data, 0)
	}},
	{"what is not there is fs.ErrNotExist", func(ctx context.Context, b firmware.Blobs) error {
		if err := putBlob(ctx, b, content(6, 10)); err != nil {
			return err
		}
		return absent(ctx, b, digest([]byte("another")))
	}},
	{"only what is not there is fs.ErrNotExist", func(ctx context.Context, b firmware.Blobs) error {
		data := content(7, 10)
		if err := putBlob(ctx, b, data); err != nil {
			return err
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		r, err := b.Open(ended, digest(data), 0)
		if err == nil {
			_, err = io.ReadAll(r)
			_ = r.Close()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("Open of a blob, with a context that has ended, returned %w", err)
		}
		return nil
	}},
	{"Delete removes", func(ctx context.Context, b firmware.Blobs) error {
		data, other := content(8, 1000), content(9, 1000)
		if err := errors.Join(putBlob(ctx, b, data), putBlob(ctx, b, other)); err != nil {
			return err
		}
		if err := b.Delete(ctx, digest(data)); err != nil {
			return fmt.Errorf("Delete: %w", err)
		}
		if err := absent(ctx, b, digest(data)); err != nil {
			return err
		}
		return expect(ctx, b, other, 0)
	}},
	{"Delete of what is not there is no error", func(ctx context.Context, b firmware.Blobs) error {
		if err := b.Delete(ctx, digest([]byte("nothing"))); err != nil {
			return fmt.Errorf("Delete: %w", err)
		}
		return nil
	}},
	{"Put after Delete stores", func(ctx context.Context, b firmware.Blobs) error {
		data := content(10, 1000)
		if err := errors.Join(putBlob(ctx, b, data), b.Delete(ctx, digest(data)), putBlob(ctx, b, data)); err != nil {
			return err
		}
		return expect(ctx, b, data, 0)
	}},
	{"calls end with their context", func(ctx context.Context, b firmware.Blobs) error {
		data := content(11, 1000)
		if err := putBlob(ctx, b, data); err != nil {
			return err
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		other := content(12, 1000)
		if b.Put(ended, digest(other), section(other)) == nil {
			if err := expect(ctx, b, other, 0); err != nil {
				return fmt.Errorf("Put returned nil: %w", err)
			}
		}
		open, stop := context.WithCancel(ctx)
		r, err := b.Open(open, digest(data), 0)
		if err != nil {
			stop()
			return fmt.Errorf("Open: %w", err)
		}
		defer r.Close()
		stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = io.Copy(io.Discard, r)
		}()
		select {
		case <-done:
			return nil
		case <-time.After(blobTime / 4):
			return errors.New("a read goes on after its context has ended")
		}
	}},
	{"several at once", func(ctx context.Context, b firmware.Blobs) error {
		var work sync.WaitGroup
		errs := make([]error, 8)
		shared := content(20, 20_000)
		if err := putBlob(ctx, b, shared); err != nil {
			return err
		}
		for n := range errs {
			work.Go(func() {
				mine := content(byte(30+n), 10_000)
				errs[n] = errors.Join(roundTrip(ctx, b, mine), expect(ctx, b, shared, int64(n*1000)), b.Delete(ctx, digest(mine)))
			})
		}
		work.Wait()
		return errors.Join(errs...)
	}},
}

// content returns bytes that differ with their offset and with n.
func content(n byte, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16) ^ n
	}
	return data
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func section(data []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data)))
}

func putBlob(ctx context.Context, b firmware.Blobs, data []byte) error {
	if err := b.Put(ctx, digest(data), section(data)); err != nil {
		return fmt.Errorf("Put: %w", err)
	}
	return nil
}

// expect reads a blob from an offset on.
func expect(ctx context.Context, b firmware.Blobs, data []byte, offset int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := b.Open(ctx, digest(data), offset)
	if err != nil {
		return fmt.Errorf("Open at %d: %w", offset, err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil {
		return fmt.Errorf("reading from %d: %w", offset, err)
	}
	if !bytes.Equal(got, data[offset:]) {
		return fmt.Errorf("from %d on there are %d bytes, not the %d that were stored", offset, len(got), len(data[offset:]))
	}
	return nil
}

func roundTrip(ctx context.Context, b firmware.Blobs, data []byte) error {
	if err := putBlob(ctx, b, data); err != nil {
		return err
	}
	return expect(ctx, b, data, 0)
}

// absent checks that a blob is not there.
func absent(ctx context.Context, b firmware.Blobs, digest string) error {
	r, err := b.Open(ctx, digest, 0)
	if err == nil {
		_ = r.Close()
		return errors.New("Open returned no error for a blob that is not there")
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("Open of a blob that is not there returned an error that does not match fs.ErrNotExist: %w", err)
	}
	return nil
}

var errBody = errors.New("the body cannot be read")

// failing is a body that cannot be read from an offset on.
type failing struct {
	io.ReaderAt
	from int64
}

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > f.from {
		n := max(0, f.from-off)
		m, _ := f.ReaderAt.ReadAt(b[:n], off)
		return m, errBody
	}
	return f.ReaderAt.ReadAt(b, off)
}
