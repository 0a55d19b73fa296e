package firmware_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// A bucket is Blobs in memory, with faults on demand.
type bucket struct {
	mu    sync.Mutex
	blobs map[string][]byte
	opens []int64 // offsets
	// Each replaces a call, if it is set.
	put    func(ctx context.Context, body *io.SectionReader) error
	open   func(ctx context.Context, data []byte, offset int64) (io.ReadCloser, error)
	remove func(ctx context.Context) error
}

func newBucket() *bucket { return &bucket{blobs: map[string][]byte{}} }

// set changes the bucket while it is in use.
func (b *bucket) set(fn func(b *bucket)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn(b)
}

func (b *bucket) Put(ctx context.Context, digest string, body *io.SectionReader) error {
	b.mu.Lock()
	instead := b.put
	b.mu.Unlock()
	if instead != nil {
		if err := instead(ctx, body); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	b.set(func(b *bucket) { b.blobs[digest] = data })
	return nil
}

func (b *bucket) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	b.mu.Lock()
	instead := b.open
	data, ok := b.blobs[digest]
	b.opens = append(b.opens, offset)
	b.mu.Unlock()
	switch {
	case instead != nil:
		return instead(ctx, data, offset)
	case !ok:
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data[min(offset, int64(len(data))):])), nil
}

func (b *bucket) Delete(ctx context.Context, digest string) error {
	b.mu.Lock()
	instead := b.remove
	b.mu.Unlock()
	if instead != nil {
		return instead(ctx)
	}
	b.set(func(b *bucket) { delete(b.blobs, digest) })
	return nil
}

func (b *bucket) names() (names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.blobs {
		names = append(names, name)
	}
	return names
}

// A reader is a function as a body.
type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
func (r reader) Close() error               { return nil }

func TestFolder(t *testing.T) {
	firmwaretest.RunBlobs(t, func(t testing.TB) firmware.Blobs {
		blobs, err := firmware.OpenFolder(filepath.Join(t.TempDir(), "a", "images"))
		require.NoError(t, err)
		return blobs
	})
	dir := t.TempDir()
	blobs, err := firmware.OpenFolder(dir)
	require.NoError(t, err)
	for _, name := range []string{"", "../x", "a/b", strings.Repeat("A", 64), strings.Repeat("a", 63)} {
		body := io.NewSectionReader(strings.NewReader("x"), 0, 1)
		require.Error(t, blobs.Put(t.Context(), name, body), name)
		_, err := blobs.Open(t.Context(), name, 0)
		require.Error(t, err, name)
		require.Error(t, blobs.Delete(t.Context(), name), name)
	}
	require.Empty(t, files(t, dir))
}

// TestBlobsConfig makes repositories and folders with invalid configurations.
func TestBlobsConfig(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for name, open := range map[string]func() error{
		"no name":          func() error { _, err := firmware.OpenFolder(""); return err },
		"folder is a file": func() error { _, err := firmware.OpenFolder(file); return err },
		"below a file": func() error {
			_, err := firmware.OpenRepository(filepath.Join(file, "x"), memory.New(), firmware.RepositoryConfig{})
			return err
		},
		"no store": func() error { _, err := firmware.OpenRepository(dir, nil, firmware.RepositoryConfig{}); return err },
		"no blobs": func() error {
			_, err := firmware.NewRepository(nil, memory.New(), firmware.RepositoryConfig{})
			return err
		},
		"needless spool": func() error {
			_, err := firmware.OpenRepository(dir, memory.New(), firmware.RepositoryConfig{Spool: dir})
			return err
		},
		"spool is a file": func() error {
			_, err := firmware.NewRepository(newBucket(), memory.New(), firmware.RepositoryConfig{Spool: file})
			return err
		},
		"spool is missing": func() error {
			_, err := firmware.NewRepository(newBucket(), memory.New(), firmware.RepositoryConfig{Spool: filepath.Join(dir, "x")})
			return err
		},
	} {
		require.Error(t, open(), name)
	}
	if os.Getuid() > 0 { // root can write to any folder
		require.NoError(t, os.Chmod(dir, 0o500))
		_, err := firmware.OpenFolder(dir)
		require.ErrorIs(t, err, fs.ErrPermission)
		require.NoError(t, os.Chmod(dir, 0o700))
	}
}

// TestRepositoryElsewhere is TestRepositoryAdd with a bucket.
func TestRepositoryElsewhere(t *testing.T) {
	spool, b := t.TempDir(), newBucket()
	r, err := firmware.NewRepository(b, memory.New(), firmware.RepositoryConfig{Spool: spool})
	require.NoError(t, err)
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	img, err := r.Add(t.Context(), firmware.Image{Name: "a", Version: "1"}, bytes.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, digest(body), img.SHA256)
	twin, err := r.Add(t.Context(), firmware.Image{Name: "b", Version: "1"}, bytes.NewReader(body))
	require.NoError(t, err)
	_, err = r.Add(t.Context(), firmware.Image{Name: "a", Version: "1"}, strings.NewReader("others"))
	require.ErrorIs(t, err, store.ErrVersionTaken)
	require.Equal(t, []string{img.SHA256}, b.names())
	require.Empty(t, files(t, spool))

	p, err := r.Open(t.Context(), img.ID)
	require.NoError(t, err)
	second, err := r.Open(t.Context(), twin.ID)
	require.NoError(t, err)
	require.Equal(t, string(body), readAll(t, p))
	require.Equal(t, string(body), readAll(t, second))
	require.Equal(t, []int64{0}, b.opens, "one copy for all")
	require.NoError(t, p.Close())
	require.NoError(t, r.Delete(t.Context(), img.ID))
	require.Equal(t, []string{img.SHA256}, b.names(), "the other image needs it")
	require.NoError(t, r.Delete(t.Context(), twin.ID))
	require.Empty(t, b.names())
	require.Equal(t, string(body), readAll(t, second), "who has it open reads it")
	require.NoError(t, second.Close())
	_, err = second.ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, os.ErrClosed)
	require.Empty(t, files(t, spool))

	// NewRepository with a folder is the same as OpenRepository.
	blobs, err := firmware.OpenFolder(spool)
	require.NoError(t, err)
	r, err = firmware.NewRepository(blobs, memory.New(), firmware.RepositoryConfig{})
	require.NoError(t, err)
	img, err = r.Add(t.Context(), firmware.Image{Version: "1"}, bytes.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, []string{img.SHA256}, files(t, spool))
}

// inBucket runs fn with a repository over a bucket that has one image of size bytes, in virtual
// time.
func inBucket(t *testing.T, size int, fn func(t *testing.T, r *firmware.Repository, b *bucket, img firmware.Image)) {
	t.Helper()
	spool := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := newBucket()
		r, err := firmware.NewRepository(b, memory.New(), firmware.RepositoryConfig{Spool: spool, Logger: testLogger(t, "images")})
		require.NoError(t, err)
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(i * 7 / 3)
		}
		img, err := r.Add(t.Context(), firmware.Image{Name: "a", Version: "1"}, bytes.NewReader(body))
		require.NoError(t, err)
		fn(t, r, b, img)
	})
	require.Empty(t, files(t, spool))
}

// TestBlobsMisbehave makes reads of an image fail in many ways. Only an image with the right bytes
// gives its last byte. A transient error is not damage, and the image can be read later.
func TestBlobsMisbehave(t *testing.T) {
	const size = 200_000
	broken := errors.New("the bucket is away")
	hung := make(chan struct{})
	whole := func(data []byte, offset int64) io.ReadCloser { return io.NopCloser(bytes.NewReader(data[offset:])) }
	flip := func(data []byte) []byte {
		data = bytes.Clone(data)
		data[1000]++
		return data
	}
	type opening = func(ctx context.Context, data []byte, offset int64) (io.ReadCloser, error)
	for name, test := range map[string]struct {
		open opening
		want error // nil: success; errPasses: an error other than damage
		says string
	}{
		"breaks off, and goes on": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return whole(data[:min(offset+30_000, size)], offset), nil
		}},
		"breaks off with an error, and goes on": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[offset:min(offset+70_000, size)]), reader(func([]byte) (int, error) { return 0, broken }))), nil
		}},
		"trickles": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			r := bytes.NewReader(data[offset:])
			return reader(func(p []byte) (int, error) {
				time.Sleep(50 * time.Second)
				return r.Read(p[:min(len(p), 20_000)])
			}), nil
		}},
		"always fails": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) { return nil, broken }, want: broken},
		"fails reading": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) {
			return reader(func([]byte) (int, error) { return 0, broken }), nil
		}, want: broken},
		"hangs": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) { <-hung; return nil, broken },
			want: errPasses, says: "moved no byte for 1m0s"},
		"hangs reading": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(data[offset:min(offset+10, size)]), reader(func([]byte) (int, error) {
				<-hung
				return 0, broken
			}))), nil
		}, want: errPasses, says: "moved no byte for 1m0s"},
		"hangs until its context ends": {open: func(ctx context.Context, _ []byte, _ int64) (io.ReadCloser, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, want: errPasses, says: "moved no byte for 1m0s"},
		"panics":         {open: func(context.Context, []byte, int64) (io.ReadCloser, error) { panic("a bug") }, want: errPasses, says: "panicked"},
		"panics reading": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) { return reader(nil), nil }, want: errPasses, says: "panicked"},
		"gives nothing":  {open: func(context.Context, []byte, int64) (io.ReadCloser, error) { return nil, nil }, want: errPasses, says: "neither"},
		"is missing": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) {
			return nil, fmt.Errorf("404: %w", fs.ErrNotExist)
		},
			want: firmware.ErrDamaged, says: "missing"},
		"other bytes": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return whole(flip(data), offset), nil
		},
			want: firmware.ErrDamaged, says: "digest"},
		"too short": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return whole(data[:size-1], offset), nil
		}, want: firmware.ErrDamaged, says: "only 199999"},
		"too long": {open: func(_ context.Context, data []byte, offset int64) (io.ReadCloser, error) {
			return whole(append(bytes.Clone(data), 0), offset), nil
		}, want: firmware.ErrDamaged, says: "more than"},
		"endless": {open: func(context.Context, []byte, int64) (io.ReadCloser, error) {
			return reader(func(p []byte) (int, error) { return len(p), nil }), nil
		}, want: firmware.ErrDamaged, says: "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			inBucket(t, size, func(t *testing.T, r *firmware.Repository, b *bucket, img firmware.Image) {
				hung = make(chan struct{})
				b.set(func(b *bucket) { b.open = test.open })
				p, err := r.Open(t.Context(), img.ID)
				require.NoError(t, err)
				_, err = p.ReadAt(make([]byte, 1), size-1)
				if test.want == nil {
					require.NoError(t, err)
					require.Equal(t, string(b.blobs[img.SHA256]), readAll(t, p))
				} else {
					if !errors.Is(test.want, errPasses) {
						require.ErrorIs(t, err, test.want)
					}
					require.ErrorContains(t, err, test.says)
					require.Equal(t, errors.Is(test.want, firmware.ErrDamaged), errors.Is(err, firmware.ErrDamaged))
					_, again := p.ReadAt(make([]byte, 10), size-10)
					require.Equal(t, err, again, "who reads on gets the same")
				}
				close(hung)
				time.Sleep(time.Minute)

				// It works again, also for the open package.
				b.set(func(b *bucket) { b.open = nil })
				second, err := r.Open(t.Context(), img.ID)
				require.NoError(t, err)
				require.Equal(t, string(b.blobs[img.SHA256]), readAll(t, second))
				require.Equal(t, string(b.blobs[img.SHA256]), readAll(t, p))
				require.NoError(t, errors.Join(p.Close(), second.Close()))
				_, err = p.ReadAt(make([]byte, 1), 0)
				require.ErrorIs(t, err, os.ErrClosed)
			})
		})
	}
}

// errPasses stands for any error other than damage.
var errPasses = errors.New("an error that may pass")

// TestBlobsLeftBehind has calls that do not end with their context. Until they return, no other
// call touches their blob; their number is bounded.
func TestBlobsLeftBehind(t *testing.T) {
	inBucket(t, 1000, func(t *testing.T, r *firmware.Repository, b *bucket, img firmware.Image) {
		hung := make(chan struct{})
		b.set(func(b *bucket) {
			b.put = func(context.Context, *io.SectionReader) error { <-hung; return errors.New("too late") }
		})
		began := time.Now()
		_, err := r.Add(t.Context(), firmware.Image{Name: "b", Version: "1"}, strings.NewReader("x"))
		require.ErrorContains(t, err, "moved no byte")
		require.Less(t, time.Since(began), 2*time.Minute)
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = r.Add(limited, firmware.Image{Name: "b", Version: "1"}, strings.NewReader("x"))
		require.ErrorIs(t, err, context.DeadlineExceeded, "the same digest")
		p, err := r.Open(t.Context(), img.ID)
		require.NoError(t, err)
		require.Len(t, readAll(t, p), 1000, "other images are read")
		require.NoError(t, p.Close())

		// One more for each digest, until there are too many.
		var refused error
		for n := 0; refused == nil && n < 100; n++ {
			_, err = r.Add(t.Context(), firmware.Image{Name: fmt.Sprint(n), Version: "1"}, strings.NewReader(fmt.Sprint(n)))
			if err != nil && strings.Contains(err.Error(), "have not returned") {
				refused = err
			}
		}
		require.ErrorContains(t, refused, "64 calls")
		close(hung)
		synctest.Wait()
		b.set(func(b *bucket) { b.put = nil })
		_, err = r.Add(t.Context(), firmware.Image{Name: "b", Version: "1"}, strings.NewReader("x"))
		require.NoError(t, err)
	})
}

// TestBlobsFail makes Put and Delete fail.
func TestBlobsFail(t *testing.T) {
	inBucket(t, 1000, func(t *testing.T, r *firmware.Repository, b *bucket, img firmware.Image) {
		broken := errors.New("the bucket is away")
		for name, fail := range map[string]func(context.Context, *io.SectionReader) error{
			"an error": func(context.Context, *io.SectionReader) error { return broken },
			"a panic":  func(context.Context, *io.SectionReader) error { panic("a bug") },
		} {
			b.set(func(b *bucket) { b.put = fail })
			_, err := r.Add(t.Context(), firmware.Image{Name: "b", Version: "1"}, strings.NewReader("x"))
			require.Error(t, err, name)
			for range r.List(t.Context(), store.ImageQuery{After: img.ID}) {
				t.Fatal("an image without bytes is listed")
			}
		}
		// A slow Put that moves bytes may go on.
		b.set(func(b *bucket) {
			b.put = func(_ context.Context, body *io.SectionReader) error {
				for at := range body.Size() {
					time.Sleep(50 * time.Second)
					_, _ = body.ReadAt(make([]byte, 1), at)
				}
				return nil
			}
		})
		_, err := r.Add(t.Context(), firmware.Image{Name: "b", Version: "1"}, strings.NewReader("xyz"))
		require.NoError(t, err)
		b.set(func(b *bucket) { b.remove = func(context.Context) error { return broken } })
		require.ErrorIs(t, r.Delete(t.Context(), img.ID), broken)
		_, err = r.Get(t.Context(), img.ID)
		require.ErrorIs(t, err, store.ErrNotFound, "the record is deleted")
	})
}

// TestDeleteAfterAbandonedPut has a Put hang, and store its blob after the upload has failed: the
// blob is deleted then, and not while the Put runs.
func TestDeleteAfterAbandonedPut(t *testing.T) {
	inBucket(t, 10, func(t *testing.T, r *firmware.Repository, b *bucket, _ firmware.Image) {
		var running, overlapped atomic.Bool
		release := make(chan struct{})
		b.set(func(b *bucket) {
			b.put = func(_ context.Context, body *io.SectionReader) error {
				running.Store(true)
				defer running.Store(false)
				data, err := io.ReadAll(body)
				if err != nil {
					return err
				}
				<-release
				b.set(func(b *bucket) { b.blobs[fmt.Sprintf("%x", sha256.Sum256(data))] = data })
				return errors.New("late")
			}
			b.remove = func(context.Context) error {
				overlapped.CompareAndSwap(false, running.Load())
				b.set(func(b *bucket) { clear(b.blobs) })
				return nil
			}
		})
		_, err := r.Add(t.Context(), firmware.Image{Name: "b", Version: "2"}, strings.NewReader("other"))
		require.ErrorContains(t, err, "moved no byte")
		require.Len(t, b.names(), 1)
		close(release)
		synctest.Wait()
		require.False(t, overlapped.Load())
		require.Empty(t, b.names())
	})
}
