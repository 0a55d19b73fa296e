package device

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/disk"
	"github.com/otago-iot/otago/lwm2m"
)

// inspectTest accepts packages whose first line is "image VERSION".
func inspectTest(image io.Reader, size int64) (PackageInfo, error) {
	line, err := bufio.NewReader(io.LimitReader(image, 80)).ReadString('\n')
	version, ok := strings.CutPrefix(strings.TrimSpace(line), "image ")
	if err != nil || !ok {
		return PackageInfo{}, errors.New("no image")
	}
	return PackageInfo{Name: "test", Version: version}, nil
}

func testImage(version string, size int) []byte {
	line := "image " + version + "\n"
	return []byte(line + strings.Repeat("0123456789abcde\n", size/16+1))[:max(size, len(line))]
}

// rig is a device that can be stopped and started again with the same directory.
type rig struct {
	t      testing.TB
	dir    string
	config Config
	slots  SlotConfig
	hook   func(op string) error     // of the disk
	done   func(disk.Step)           // of the disk
	deaf   bool                      // the device does not get registered
	wrap   func(Installer) Installer // returns the device's installer, given the slots; nil: the slots themselves

	open   *Slots
	boot   BootTarget
	device *Device
	cancel context.CancelFunc
	ended  chan error
	client *testClient
	seen   fsm.Object // the last object that update saw
}

// testClient stands in for lwm2m.Client.
type testClient struct {
	deaf    bool
	mu      sync.Mutex
	changed []lwm2m.Path
	change  chan struct{}
}

func (c *testClient) Notify(paths ...lwm2m.Path) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changed = append(c.changed, paths...)
	select {
	case c.change <- struct{}{}:
	default:
	}
}

func (c *testClient) WaitRegistered(ctx context.Context) error {
	if c.deaf {
		<-ctx.Done()
	}
	return ctx.Err()
}

// paths returns the paths that were notified since the last call.
func (c *testClient) paths() []lwm2m.Path {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.changed
	c.changed = nil
	return changed
}

func newRig(t testing.TB) *rig { return newRigIn(t, t.TempDir()) }

func newRigIn(t testing.TB, dir string) *rig {
	r := &rig{
		t: t, dir: dir,
		config: Config{MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond, Idle: 5 * time.Second, SyncEvery: 4096},
		slots:  SlotConfig{Inspect: inspectTest, Version: "1.0"},
	}
	t.Cleanup(r.stop)
	return r
}

// start starts the device. The error is one of the disk.
func (r *rig) start() (err error) {
	r.t.Helper()
	if r.open, err = openSlots(r.dir, r.slots, disk.Files{Hook: r.hook, Done: r.done}); err != nil {
		return err
	}
	if r.boot, err = r.open.Boot(); err != nil {
		r.open.Close()
		r.open = nil
		return err
	}
	installer := Installer(r.open)
	if r.wrap != nil {
		installer = r.wrap(r.open)
	}
	if r.device, err = New(installer, r.config); err != nil {
		return err
	}
	r.client = &testClient{deaf: r.deaf, change: make(chan struct{}, 1)}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.ended = make(chan error, 1)
	go func(d *Device, ended chan<- error, client *testClient) { ended <- d.run(ctx, client) }(r.device, r.ended, r.client)
	r.attached()
	return nil
}

// attached waits until the device has its client, or has ended. Earlier changes are not notified.
func (r *rig) attached() {
	for limit := time.Now().Add(20 * time.Second); len(r.ended) == 0 && time.Now().Before(limit); time.Sleep(time.Millisecond) {
		r.device.mu.Lock()
		client := r.device.client
		r.device.mu.Unlock()
		if client != nil {
			return
		}
	}
}

// stop stops the device as a crash does, as far as that is possible within a process.
func (r *rig) stop() {
	if r.open == nil {
		return
	}
	r.cancel()
	if r.ended != nil {
		<-r.ended
	}
	r.open.Close()
	r.open = nil
}

// end waits until the run of the device has ended.
func (r *rig) end() error {
	r.t.Helper()
	select {
	case err := <-r.ended:
		r.ended = nil
		r.stop()
		return err
	case <-time.After(20 * time.Second):
		require.FailNow(r.t, "the device does not end")
		return nil
	}
}

func (r *rig) object() lwm2m.StreamWriter { return r.device.Object().(lwm2m.StreamWriter) }

func (r *rig) write(resource uint16, v lwm2m.Value) error {
	path := lwm2m.NewPath(5, 0, resource)
	return r.object().Write(context.Background(), path, []lwm2m.Entry{{Path: path, Value: v}}, true)
}

func (r *rig) execute(resource uint16) error {
	return r.object().Execute(context.Background(), lwm2m.NewPath(5, 0, resource), "")
}

func (r *rig) read(resource uint16) (lwm2m.Value, error) {
	entries, err := r.object().Read(context.Background(), lwm2m.NewPath(5, 0, resource))
	if err != nil {
		return lwm2m.Value{}, err
	}
	return entries[0].Value, nil
}

// push writes a package in blocks.
func (r *rig) push(image []byte, block int) error {
	ctx := context.Background()
	sink, err := r.object().OpenWrite(ctx, pathPackage, int64(len(image)))
	if err != nil {
		return err
	}
	for part := range slicesOf(image, block) {
		if _, err := sink.Write(part); err != nil {
			sink.Abort(err)
			return err
		}
	}
	return sink.Commit(ctx)
}

func slicesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 && yield(b[:min(n, len(b))]) {
			b = b[min(n, len(b)):]
		}
	}
}

func (r *rig) now() fsm.Object {
	r.t.Helper()
	o, err := r.device.State(context.Background())
	require.NoError(r.t, err)
	return o
}

// wait waits until the device has a State and a Result and no work.
func (r *rig) wait(state fsm.State, result fsm.Result) fsm.Object {
	r.t.Helper()
	limit := time.After(20 * time.Second)
	for {
		o := r.now()
		if o.State == state && o.Result == result {
			return o
		}
		select {
		case <-r.client.change:
		case <-time.After(10 * time.Millisecond):
		case <-limit:
			require.FailNow(r.t, "waited in vain", "for %s %s, it is %s %s", state, result, o.State, o.Result)
		}
	}
}

func requireCode(t testing.TB, err error, code lwm2m.ResponseCode) {
	t.Helper()
	re, ok := errors.AsType[*lwm2m.ResponseError](err)
	require.True(t, ok, "%v is no answer", err)
	require.Equal(t, code, re.Code)
}

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
