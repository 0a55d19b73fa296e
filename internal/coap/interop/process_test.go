package interop_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// absent skips a test because its peer is missing, or fails it in CI.
func absent(t testing.TB, format string, args ...any) {
	t.Helper()
	if ci, _ := strconv.ParseBool(os.Getenv("CI")); ci {
		t.Fatalf("needed in CI: "+format, args...)
	}
	t.Skipf(format, args...)
}

// program returns the path of a program of package pkg.
func program(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		absent(t, "%s is not installed (Debian: %s)", name, pkg)
	}
	return path
}

// process is a peer that runs during the test.
type process struct {
	cmd    *exec.Cmd
	out    output
	exited chan struct{}
}

// output can be read while it is written.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a program that runs until the test ends.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.out, &p.out
	cmd.WaitDelay = time.Second
	require.NoError(t, cmd.Start())
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd.Args, p.out.String())
		}
	})
	return p
}

// run runs a program to its end, and expects success.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	p := start(t, cmd)
	select {
	case <-p.exited:
	case <-time.After(60 * time.Second):
		t.Fatalf("%v does not end:\n%s", cmd.Args, p.out.String())
	}
	require.True(t, cmd.ProcessState.Success(), "%v: %v\n%s", cmd.Args, cmd.ProcessState, p.out.String())
}

// awaitCoAP pings until the CoAP server at an address answers.
func awaitCoAP(t testing.TB, p *process, at netip.AddrPort) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	require.NoError(t, err)
	defer conn.Close()
	ping := []byte{0x40, 0, 0, 1}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		select {
		case <-p.exited:
			t.Fatalf("%v ended:\n%s", p.cmd.Args, p.out.String())
		default:
		}
		until := time.Now().Add(20 * time.Millisecond)
		_ = conn.SetReadDeadline(until)
		if _, err := conn.Write(ping); err == nil {
			b := make([]byte, 64)
			if n, err := conn.Read(b); err == nil && bytes.Equal(b[:n], []byte{0x70, 0, 0, 1}) {
				return
			}
		}
		<-time.After(time.Until(until)) // a refusal comes immediately
	}
	t.Fatalf("%v does not answer:\n%s", p.cmd.Args, p.out.String())
}

// uri returns the URI of a path at an address.
func uri(scheme string, at netip.AddrPort, path string) string {
	return fmt.Sprintf("%s://%s/%s", scheme, at, path)
}
