//go:build unix

package device

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// fullDisk is a disk that is full from one operation on: no file can be created or grow.
type fullDisk struct {
	mu   sync.Mutex
	left int // operations that still find space; below 0: all do
	err  error
	hit  string

	ofImage bool // the package fills the disk
}

func (f *fullDisk) hook(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	verb, path, _ := strings.Cut(op, " ")
	if f.ofImage && verb == "remove" && strings.HasSuffix(path, "/image") {
		f.left = -1
	}
	if verb != "create" && verb != "write" && verb != "sync" {
		return nil
	}
	if f.left == 0 {
		if f.hit == "" {
			f.hit = op
		}
		return f.err
	}
	f.left--
	return nil
}

func (f *fullDisk) free() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = -1
}

func (f *fullDisk) where() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hit
}

// transferred waits for the end of a transfer.
func (r *rig) transferred() fsm.Object {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		o := r.now()
		if o.State == fsm.Downloaded || o.State == fsm.Idle {
			return o
		}
		select {
		case <-r.client.change:
		case <-time.After(5 * time.Millisecond):
		case <-limit:
			require.FailNow(r.t, "the transfer does not end", "%+v", o)
		}
	}
}

// TestDiskFull makes the disk full from each operation of a transfer on. In each case the device
// shows Result 2 and nothing else, also after a restart, and works as soon as there is space.
func TestDiskFull(t *testing.T) {
	pkg := testBundle(t, "1.1", bytes.Repeat([]byte("new firmware\n"), 1000))
	server := serve(t, pkg)
	public, _ := testKey()
	for delivery, cause := range map[fsm.DeliveryMode]error{fsm.DeliveryPull: unix.ENOSPC, fsm.DeliveryPush: unix.EDQUOT} {
		t.Run(delivery.String(), func(t *testing.T) {
			begin := func(r *rig) error {
				if delivery == fsm.DeliveryPush {
					return r.push(pkg, 1024)
				}
				return r.write(resURI, lwm2m.String(server.URL+"/fw"))
			}
			for n := 0; ; n++ {
				r := newRig(t)
				r.slots = SlotConfig{Trust: public, Version: "1.0"}
				full := &fullDisk{left: n, err: cause}
				r.hook = full.hook
				require.NoError(t, r.start())
				err := begin(r)
				o := r.transferred()
				if full.where() == "" {
					require.NoError(t, err)
					require.Equal(t, fsm.Downloaded, o.State)
					r.stop()
					t.Logf("%d operations", n)
					return
				}
				at := fmt.Sprintf("operation %d, %s", n, full.where())
				require.Equal(t, "idle no_storage", o.State.String()+" "+o.Result.String(), at)
				if err != nil {
					require.NotErrorIs(t, err, lwm2m.ErrBadRequest, at)
					require.NotErrorIs(t, err, lwm2m.ErrTooLarge, at)
				}
				_, never := os.Stat(r.open.path(deviceFile))
				r.stop()
				require.NoError(t, r.start(), at)
				o = r.transferred()
				wants := []string{"idle no_storage"}
				if never != nil { // nothing of the package was ever stored
					wants = []string{"idle default"}
				} else if strings.HasPrefix(full.where(), "sync directory") { // the last record may be there nevertheless
					wants = append(wants, "downloaded default")
				}
				require.Contains(t, wants, o.State.String()+" "+o.Result.String(), at)
				full.free()
				if o.State == fsm.Idle {
					require.NoError(t, begin(r), at)
				}
				require.Equal(t, fsm.Downloaded, r.transferred().State, at)
				r.stop()
			}
		})
	}
}

// TestDiskFullSavedLate: a state that the device shows but cannot save is saved later.
func TestDiskFullSavedLate(t *testing.T) {
	r := newRig(t)
	full := &fullDisk{err: unix.ENOSPC}
	r.hook = full.hook
	require.NoError(t, r.start())
	require.Error(t, r.write(resURI, lwm2m.String("http://127.0.0.1:1/fw")))
	r.wait(fsm.Idle, fsm.ResultNoStorage)
	full.free()
	require.Eventually(t, func() bool {
		record, err := os.ReadFile(r.open.path(deviceFile))
		return err == nil && bytes.Contains(record, []byte(`"result":"no_storage"`))
	}, 10*time.Second, 5*time.Millisecond)
	r.stop()
	require.NoError(t, r.start())
	r.wait(fsm.Idle, fsm.ResultNoStorage)
}

// TestDiskFullOfPackage: a package that fills the disk is removed before the new state is saved.
func TestDiskFullOfPackage(t *testing.T) {
	r := newRig(t)
	full := &fullDisk{left: 12, err: unix.ENOSPC, ofImage: true}
	r.hook = full.hook
	require.NoError(t, r.start())
	require.Error(t, r.push(testImage("2", 20000), 1024))
	r.wait(fsm.Idle, fsm.ResultNoStorage)
	record, err := os.ReadFile(r.open.path(deviceFile))
	require.NoError(t, err)
	require.Contains(t, string(record), `"result":"no_storage"`)
}

// TestDiskFullReset: a server can reset a transfer whose state cannot be saved.
func TestDiskFullReset(t *testing.T) {
	r := newRig(t)
	full := &fullDisk{left: -1, err: unix.ENOSPC}
	r.hook = full.hook
	hang := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { <-q.Context().Done() }))
	defer hang.Close()
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(hang.URL)))
	r.wait(fsm.Downloading, fsm.ResultDefault)
	full.mu.Lock()
	full.left = 0
	full.mu.Unlock()
	require.Error(t, r.write(resURI, lwm2m.String("")), "not durable, so not a success")
	r.wait(fsm.Idle, fsm.ResultDefault)
}

// TestDiskReallyFull fills a real file system during a transfer.
func TestDiskReallyFull(t *testing.T) {
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("mounting a tmpfs takes root on Linux")
	}
	image := testImage("1.1", 3<<20)
	fill := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(image)))
		_, _ = w.Write(image[:100<<10])
		w.(http.Flusher).Flush()
		<-fill
		_, _ = w.Write(image[100<<10:])
	}))
	defer server.Close()
	for _, delivery := range []fsm.DeliveryMode{fsm.DeliveryPull, fsm.DeliveryPush} {
		t.Run(delivery.String(), func(t *testing.T) {
			fill = make(chan struct{})
			r := newRig(t)
			if err := mountTmpfs(r.dir, "6m"); err != nil {
				t.Skip("no tmpfs can be mounted here:", err)
			}
			t.Cleanup(func() { r.stop(); require.NoError(t, unmount(r.dir)) })
			require.NoError(t, r.start())
			if delivery == fsm.DeliveryPull {
				require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
				require.Eventually(t, func() bool { return r.now().Offset > 0 }, 20*time.Second, time.Millisecond)
				fillDisk(t, r.dir)
				close(fill)
			} else {
				sink, err := r.object().OpenWrite(context.Background(), pathPackage, int64(len(image)))
				require.NoError(t, err)
				_, err = sink.Write(image[:100<<10])
				require.NoError(t, err)
				fillDisk(t, r.dir)
				for part := range slicesOf(image[100<<10:], 1024) {
					if _, err = sink.Write(part); err != nil {
						sink.Abort(err)
						break
					}
				}
				require.ErrorIs(t, err, ErrNoStorage)
			}
			r.wait(fsm.Idle, fsm.ResultNoStorage)
			require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NoFileExists(c, r.open.imagePath(slotA)) }, 20*time.Second, time.Millisecond)
			fillDisk(t, r.dir) // the space of the package
			r.stop()
			require.NoError(t, r.start(), "the device starts from a disk that is full")
			r.wait(fsm.Idle, fsm.ResultNoStorage)

			err := r.push(image, 1024)
			require.ErrorIs(t, err, ErrNoStorage)
			r.wait(fsm.Idle, fsm.ResultNoStorage)

			require.NoError(t, os.Remove(r.dir+"/filler"))
			require.NoError(t, r.push(image, 1024))
			r.wait(fsm.Downloaded, fsm.ResultDefault)
			fillDisk(t, r.dir)
			require.NoError(t, r.execute(resUpdate), "an update is installed from a disk that is full")
			require.ErrorIs(t, r.end(), ErrRestart)
			require.NoError(t, r.start())
			require.Equal(t, "1.1", r.boot.Version)
			r.wait(fsm.Idle, fsm.ResultSuccess)
		})
	}
}

// fillDisk takes all free space.
func fillDisk(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(dir+"/filler", os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	defer f.Close()
	for _, size := range []int{64 << 10, 1 << 10, 1} {
		for err = nil; err == nil; {
			_, err = io.Copy(f, bytes.NewReader(make([]byte, size)))
		}
		require.ErrorIs(t, err, unix.ENOSPC)
	}
}
