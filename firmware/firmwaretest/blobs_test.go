package firmwaretest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
)

// A mapOf is Blobs in memory that may have one mistake.
type mapOf struct {
	mu      sync.Mutex
	blobs   map[string][]byte
	mistake string
}

func (m *mapOf) Put(ctx context.Context, digest string, body *io.SectionReader) error {
	data, err := io.ReadAll(body)
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.mistake == "stores a part" && err != nil:
		m.blobs[digest] = data
	case m.mistake == "hides the body's error" && err != nil:
		return nil
	}
	if err == nil {
		err = ctx.Err()
	}
	_, there := m.blobs[digest]
	switch {
	case err != nil:
		return err
	case m.mistake == "loses the last byte":
		data = data[:len(data)-1]
	case m.mistake == "does not replace" && there, m.mistake == "stores nothing":
		return nil
	case m.mistake == "limits":
		data = data[:min(len(data), 1<<20)]
	case m.mistake == "one for all":
		digest = "x"
	}
	m.blobs[digest] = data
	return nil
}

func (m *mapOf) Open(ctx context.Context, digest string, offset int64) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mistake == "one for all" {
		digest = "x"
	}
	data, ok := m.blobs[digest]
	switch {
	case ctx.Err() != nil && m.mistake == "everything is missing":
		return nil, fs.ErrNotExist
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !ok && m.mistake == "another error":
		return nil, errors.New("404")
	case !ok && m.mistake == "no error":
		return io.NopCloser(bytes.NewReader(nil)), nil
	case !ok:
		return nil, fs.ErrNotExist
	case m.mistake == "ignores the offset":
		offset = 0
	case m.mistake == "one too far":
		offset = min(offset+offset%2, int64(len(data)))
	}
	return io.NopCloser(bytes.NewReader(data[offset:])), nil
}

func (m *mapOf) Delete(_ context.Context, digest string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, there := m.blobs[digest]
	switch {
	case m.mistake == "deletes nothing":
		return nil
	case m.mistake == "deletes all":
		clear(m.blobs)
	case m.mistake == "misses what is not there" && !there:
		return fs.ErrNotExist
	}
	delete(m.blobs, digest)
	return nil
}

// TestRunBlobs runs the suite on correct blobs, and checks that it finds each mistake.
func TestRunBlobs(t *testing.T) {
	RunBlobs(t, func(testing.TB) firmware.Blobs { return &mapOf{blobs: map[string][]byte{}} })
	for _, mistake := range []string{
		"stores a part", "hides the body's error", "loses the last byte", "does not replace", "stores nothing", "limits", "one for all",
		"everything is missing", "another error", "no error", "ignores the offset", "one too far",
		"deletes nothing", "deletes all", "misses what is not there",
	} {
		found := false
		for _, c := range blobChecks {
			err := c.check(t.Context(), &mapOf{blobs: map[string][]byte{}, mistake: mistake})
			found = found || err != nil
		}
		require.True(t, found, mistake)
	}
}
