package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/store/memory"
)

// mainVariable makes the test binary run as the client. The tests of -install exec sign and install
// the binary itself.
const mainVariable = "OTAGO_TEST_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// world is an update server in this process.
type world struct {
	t       *testing.T
	backend *backend.Backend
	manager *firmware.Manager
	dir     string // for clients
}

func newWorld(t *testing.T, change ...func(*backend.Config)) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config := backend.Config{Store: memory.New(), Images: t.TempDir(), CoAP: "127.0.0.1:0", FWHTTP: "127.0.0.1:0"}
	for _, f := range change {
		f(&config)
	}
	b, err := backend.Listen(ctx, config)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return &world{t: t, backend: b, manager: b.Manager(), dir: t.TempDir()}
}

// process is a running client.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	log  *testkit.Log
}

// client starts a client process, which ends with the test.
func (w *world) client(args ...string) *process {
	w.t.Helper()
	executable, err := os.Executable()
	require.NoError(w.t, err)
	p := &process{done: make(chan struct{}), log: &testkit.Log{}}
	p.cmd = exec.Command(executable, append([]string{"-server", w.backend.URL(backend.CoAP), "-state", w.dir}, args...)...)
	p.cmd.Env = append(os.Environ(), mainVariable+"=1")
	p.cmd.Stderr = p.log
	// An orphan that still has the log open must not block Wait.
	p.cmd.WaitDelay = time.Second
	require.NoError(w.t, p.cmd.Start())
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	w.t.Cleanup(func() {
		p.kill()
		if w.t.Failed() {
			w.t.Logf("client %s:\n%s", strings.Join(args, " "), p.log)
		}
	})
	return p
}

// kill sends SIGKILL.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (w *world) image(version string, content []byte) firmware.Image {
	w.t.Helper()
	image, err := w.manager.Images().Add(w.t.Context(), firmware.Image{Name: "client", Version: version}, bytes.NewReader(content))
	require.NoError(w.t, err)
	return image
}

func (w *world) demo(version string) firmware.Image {
	return w.image(version, demo.Image(version, 200_000))
}

// start starts an update.
func (w *world) start(endpoint string, image firmware.Image, change ...func(*firmware.Request)) firmware.Update {
	w.t.Helper()
	request := firmware.Request{Endpoint: endpoint, Image: image.ID}
	for _, f := range change {
		f(&request)
	}
	update, err := w.manager.Start(w.t.Context(), request)
	require.NoError(w.t, err)
	return update
}

// end waits until an update ends.
func (w *world) end(u firmware.Update, limit time.Duration) firmware.Update {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), limit)
	defer cancel()
	for {
		now, err := w.manager.Get(ctx, u.ID)
		require.NoError(w.t, err)
		if now.Machine.Outcome != "" {
			return now
		}
		select {
		case <-ctx.Done():
			require.FailNow(w.t, "no end", "within %s: %s", limit, w.journal(u))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *world) journal(u firmware.Update) string {
	var b strings.Builder
	for event, err := range w.manager.Journal(context.Background(), u.ID) {
		if err != nil {
			break
		}
		fmt.Fprintf(&b, "\n%s %s: %s", event.Phase, event.Name, event.Detail)
	}
	return b.String()
}

// version reads 3/0/3, and waits until the device is there.
func (w *world) version(endpoint string) string {
	w.t.Helper()
	var version string
	require.Eventually(w.t, func() bool {
		info, err := w.manager.Device(w.t.Context(), endpoint)
		version = info.Firmware.Version
		return err == nil && version != ""
	}, 20*time.Second, 20*time.Millisecond)
	return version
}

func pull(r *firmware.Request) { r.Delivery, r.Protocol = fsm.DeliveryPull, fsm.ProtocolHTTP }

// keys makes a key pair. It returns the file of the public key, and a function that signs this
// program as a version.
func (w *world) keys() (trust string, sign func(version string) []byte) {
	w.t.Helper()
	trust = filepath.Join(w.dir, "key.pub")
	require.NoError(w.t, bundle.CreateKeyFiles(filepath.Join(w.dir, "key.pem"), trust))
	return trust, func(version string) []byte {
		executable, err := os.Executable()
		require.NoError(w.t, err)
		program, err := os.ReadFile(executable)
		require.NoError(w.t, err)
		return w.signed(version, program)
	}
}

func (w *world) signed(version string, content []byte) []byte {
	w.t.Helper()
	key, err := bundle.ReadPrivateKey(filepath.Join(w.dir, "key.pem"))
	require.NoError(w.t, err)
	var b bytes.Buffer
	require.NoError(w.t, bundle.Sign(&b, key, bundle.Manifest{Name: "client", Version: version}, bytes.NewReader(content)))
	return b.Bytes()
}

// child returns the process id of a client's device as its log has it, or 0.
func (p *process) child() (pid int) {
	for line := range strings.Lines(p.log.String()) {
		if _, rest, ok := strings.Cut(line, "pid="); ok {
			_, _ = fmt.Sscan(rest, &pid)
		}
	}
	return pid
}
