package lwm2m_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func pskIdentity(name string) lwm2m.Identity {
	return lwm2m.Identity{Kind: lwm2m.IdentityPSK, Name: name}
}

func certificateIdentity(name string) lwm2m.Identity {
	return lwm2m.Identity{Kind: lwm2m.IdentityCertificate, Name: name}
}

func TestPSKFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "devices.psk")
	write := func(text string) {
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
	}
	ctx := t.Context()
	c := lwm2m.PSKFile(name)
	require.Error(t, c.Err())
	_, err := c.PSK(ctx, "a")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NotErrorIs(t, err, lwm2m.ErrUnknownIdentity, "nobody knows")

	write("\ufeff# identity key endpoint\r\na\t00ff\r\n\r\nid-b 0102 b")
	require.NoError(t, c.Err())
	key, err := c.PSK(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, []byte{0, 0xff}, key)
	for id, want := range map[lwm2m.Identity]string{
		pskIdentity("a"): "a", pskIdentity("id-b"): "b",
		certificateIdentity("a"): "a", certificateIdentity("id-b"): "id-b", certificateIdentity("c"): "c",
	} {
		endpoint, err := c.Endpoint(ctx, id)
		require.NoError(t, err)
		require.Equal(t, want, endpoint, id.String())
	}
	_, err = c.Endpoint(ctx, pskIdentity("c"))
	require.ErrorIs(t, err, lwm2m.ErrUnknownIdentity)
	for _, wrong := range []string{
		"a\n", "a xyz\n", "a 00 b c\n", "a 00\na 01\n", "a " + strings.Repeat("00", 2500) + "\n", "", "\n \n", "{\"a\": \"00\"}\n",
		"a\x00 00\n", "\xff\xfea\x00 \x000\x000\x00", "a:00ff\n", "-----BEGIN X-----\nAAAA\n",
	} {
		write(wrong)
		require.Error(t, c.Err(), "%.20q", wrong)
		require.NotContains(t, c.Err().Error(), "xyz")
		_, err = c.PSK(ctx, "a")
		require.NoError(t, err, "what was right before holds")
	}
	require.NoError(t, os.Remove(name))
	require.Error(t, c.Err())
	require.NoError(t, os.Mkdir(name, 0o700))
	require.Error(t, c.Err())
	_, err = c.PSK(ctx, "a")
	require.NoError(t, err)
	require.NoError(t, os.Remove(name))
	write("# nobody\n")
	require.NoError(t, c.Err())
	_, err = c.PSK(ctx, "a")
	require.ErrorIs(t, err, lwm2m.ErrUnknownIdentity)
}

// watched collects the calls of a watcher of credentials.
type watched struct {
	mu      sync.Mutex
	revoked []string
	failed  []string
}

func (w *watched) take() (revoked, failed []string) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	revoked, failed = w.revoked, w.failed
	slices.Sort(revoked)
	w.revoked, w.failed = nil, nil
	return revoked, failed
}

// TestPSKFileIsWatched changes the file in many ways.
func TestPSKFileIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		name := filepath.Join(dir, "keys")
		at := time.Now().Add(-time.Hour)
		// write gives the file an old time, so that the watcher cannot rely on the time being
		// recent.
		write := func(path, text string) {
			require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			at = at.Add(time.Second)
			require.NoError(t, os.Chtimes(path, at, at))
		}
		write(name, "a 01\nb 02\nc 03 cc\nd 04\n")
		c := lwm2m.PSKFile(name)
		require.NoError(t, c.Err())
		w := &watched{}
		stop := c.Watch(func(ids []lwm2m.Identity) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, id := range ids {
				w.revoked = append(w.revoked, id.String())
			}
		}, func(err error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if err == nil {
				w.failed = append(w.failed, "")
			} else {
				w.failed = append(w.failed, err.Error())
			}
		})
		defer stop()
		expect := func(after time.Duration, revoked []string, failures ...string) {
			t.Helper()
			time.Sleep(after)
			gone, failed := w.take()
			require.Equal(t, revoked, gone)
			require.Len(t, failed, len(failures), "%v", failed)
			for i := range failed {
				require.Contains(t, failed[i], failures[i])
			}
		}
		expect(time.Minute, nil)
		has := func(identity string) bool {
			_, err := c.PSK(context.Background(), identity)
			return err == nil
		}

		write(name, "a 01\nb 22\nc 03 other\nd 04\ne 05\n") // one key and one endpoint are different, one key is new
		expect(3*time.Second, []string{"psk:b", "psk:c"})
		require.True(t, has("e"))
		write(name, "a 01\nb 22\nc 03 other\ne 05\n")
		expect(3*time.Second, []string{"psk:d"})
		require.False(t, has("d"))

		// Replaced by a rename, and of the same size and time.
		info, err := os.Stat(name)
		require.NoError(t, err)
		write(filepath.Join(dir, "new"), "a 01\nb 22\nc 03 other\ne 55\n")
		require.NoError(t, os.Chtimes(filepath.Join(dir, "new"), info.ModTime(), info.ModTime()))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), name))
		expect(3*time.Second, []string{"psk:e"})

		// Written slowly: the contents meanwhile do not count.
		write(name, "")
		expect(500*time.Millisecond, nil)
		write(name, "a 01\nb 2")
		expect(2*time.Second, nil)
		write(name, "a 01\nb 22\nc 03 oth")
		expect(4*time.Second, nil)
		write(name, "a 01\nb 22\nc 03 other\ne 55\n")
		expect(10*time.Second, nil)
		// A last line without a newline counts if it stays so.
		write(name, "a 01\nb 22\nc 03 other")
		expect(8*time.Second, []string{"psk:e"})

		// A file that cannot be read is reported once, and revokes nothing.
		require.NoError(t, os.Remove(name))
		expect(time.Hour, nil, "no such file")
		write(name, "a 01\nb\n")
		expect(time.Hour, nil, "line 2")
		write(name, "a 01\nb \n")
		expect(time.Hour, nil, "line 2")
		write(name, "")
		expect(time.Hour, nil, "is empty")
		require.True(t, has("b"))
		write(name, "a 01\nb 22\n")
		expect(time.Hour, []string{"psk:c"}, "")
		write(name, "# nobody any more\n")
		expect(time.Hour, []string{"psk:a", "psk:b"})
		stop()
		write(name, "a 01\n")
		expect(time.Hour, nil)
	})
}

// TestPSKFileThatIsWrongFromTheStart watches a file that is wrong already: each reason is reported
// once.
func TestPSKFileThatIsWrongFromTheStart(t *testing.T) {
	for name, test := range map[string]struct {
		before func(c *lwm2m.PSKFileCredentials, write func(string))
		want   []string
	}{
		"wrong": {func(_ *lwm2m.PSKFileCredentials, write func(string)) { write("a\n") }, []string{"line 1"}},
		"wrong and known to be": {func(c *lwm2m.PSKFileCredentials, write func(string)) {
			write("a\n")
			_ = c.Err()
			time.Sleep(time.Hour)
		}, []string{"line 1"}},
		"wrong in another way since": {func(c *lwm2m.PSKFileCredentials, write func(string)) {
			write("a\n")
			_ = c.Err()
			time.Sleep(time.Hour)
			_ = c.Err() // it is still wrong
			write("a 01\nb\n")
			_, _ = c.PSK(t.Context(), "a")
		}, []string{"line 1", "line 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "psk.txt")
			synctest.Test(t, func(t *testing.T) {
				c := lwm2m.PSKFile(path)
				test.before(c, func(text string) { require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) })
				var w watched
				stop := c.Watch(func([]lwm2m.Identity) {}, func(err error) {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.failed = append(w.failed, err.Error())
				})
				_ = c.Err()
				time.Sleep(time.Hour)
				_, failed := w.take()
				require.Len(t, failed, len(test.want), "%q", failed)
				for i, want := range test.want {
					require.Contains(t, failed[i], want)
				}
				stop()
			})
		})
	}
}
