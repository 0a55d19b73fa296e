//go:build unix

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
)

// A tap stands between devices and a server, and sees what the server sends.
type tap struct {
	t        *testing.T
	executed chan struct{} // is closed when the first Execute of a device without security has passed
	once     sync.Once

	mu    sync.Mutex
	woken bool
	late  [][]byte // what came after woken was set
}

func newTap(t *testing.T) *tap { return &tap{t: t, executed: make(chan struct{})} }

func (p *tap) see(b []byte) {
	if isExecute(b) {
		p.once.Do(func() { close(p.executed) })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.woken {
		p.late = append(p.late, bytes.Clone(b))
	}
}

// isExecute reports whether b, of a datagram or a connection, has a request to 5/0/2.
func isExecute(b []byte) bool {
	return bytes.Contains(b, []byte("\x015\x010\x012")) || bytes.Contains(b, []byte("\xb15\x010\x012"))
}

// hasURI reports whether b has a package URI.
func hasURI(b []byte) bool { return bytes.Contains(b, []byte("://")) }

// datagrams returns an address whose datagrams go to the server, for one device.
func (p *tap) datagrams(server string) string {
	front, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(p.t, err)
	back, err := net.Dial("udp4", server)
	require.NoError(p.t, err)
	p.t.Cleanup(func() { front.Close(); back.Close() })
	var mu sync.Mutex
	var device net.Addr
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, from, err := front.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			device = from
			mu.Unlock()
			_, _ = back.Write(b[:n]) // a datagram may get lost
		}
	}()
	go func() {
		for b := make([]byte, 1<<16); ; {
			n, err := back.Read(b)
			if err != nil {
				if p.t.Context().Err() != nil || strings.Contains(err.Error(), "closed") {
					return
				}
				continue // the port is closed
			}
			p.see(b[:n])
			mu.Lock()
			to := device
			mu.Unlock()
			_, _ = front.WriteTo(b[:n], to) // likewise
		}
	}()
	return front.LocalAddr().String()
}

// connections returns an address whose connections go to the server.
func (p *tap) connections(server string) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(p.t, err)
	p.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			back, err := net.Dial("tcp4", server)
			if err != nil {
				front.Close()
				continue
			}
			go func() {
				_, _ = io.Copy(back, front) // until either end closes
				back.Close()
			}()
			go func() {
				defer front.Close()
				for b := make([]byte, 1<<16); ; {
					n, err := back.Read(b)
					if err != nil {
						return
					}
					p.see(b[:n])
					if _, err := front.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// TestWokenServer stops a server while it sends Executes and packages to devices by UDP, TCP and
// DTLS, and wakes it up when another one has taken over: of each goroutine that sends, at most what
// it was about to send leaves, and that is no Execute and no URI.
func TestWokenServer(t *testing.T) {
	t.Parallel()
	late, sockets := wake(t)
	t.Logf("%d messages left late", len(late))
	require.LessOrEqual(t, len(late), sockets)
	for _, b := range late {
		require.False(t, isExecute(b), "%q", b)
		require.False(t, hasURI(b), "%q", b)
	}
}

// TestWithoutGate is the counter-test.
func TestWithoutGate(t *testing.T) {
	t.Parallel()
	late, sockets := wake(t, ungatedEnv+"=1")
	t.Logf("%d messages left late", len(late))
	require.Greater(t, len(late), sockets, "without a gate the server goes on sending")
}

// wake returns what a server sent after it was stopped, lost its lease, and was woken up, and how
// many goroutines of it send.
func wake(t *testing.T, env ...string) (late [][]byte, sockets int) {
	if testing.Short() || testkit.Race {
		t.Skip("24 devices and the end of a lease take 20 s")
	}
	dir := t.TempDir()
	var keys strings.Builder
	const devices = 24
	for n := range devices {
		fmt.Fprintf(&keys, "key-%d 0123456789abcdef dev-%d\n", n, n)
	}
	psk := filepath.Join(dir, "devices.psk")
	require.NoError(t, os.WriteFile(psk, []byte(keys.String()), 0o600))
	url := pgtest.Start(t, "fsync=off").URL()
	flags := []string{"-store", url, "-coap-tcp", "127.0.0.1:0", "-coaps", "127.0.0.1:0", "-psk", psk}
	first := launchServerIn(t, env, append(flags, "-data", t.TempDir())...)
	first.awaitListening()
	standby := launchServer(t, append(flags, "-data", t.TempDir(), "-standby")...)

	at := func(door string) string { return first.urls[door][strings.LastIndex(first.urls[door], "/")+1:] }
	p := newTap(t)
	var held, pushed []update
	small, large := first.upload("1.1.0", demo.Image("1.1.0", 2_000)), first.upload("1.2.0", demo.Image("1.2.0", 4_000_000))
	for n := range devices {
		c := lwm2m.ClientConfig{Endpoint: fmt.Sprint("dev-", n), Lifetime: time.Minute}
		switch n % 3 {
		case 0:
			c.Server = "coap://" + p.datagrams(at("coap devices, without security"))
		case 1:
			c.Server = "coap+tcp://" + p.connections(at("coap+tcp devices, without security"))
			sockets++
		case 2:
			c.Server = "coaps://" + p.datagrams(at("coaps devices"))
			c.PSKIdentity, c.PSK = fmt.Sprint("key-", n), []byte{0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}
		}
		startGone(t, c)
		if n < devices/2 {
			held = append(held, first.start(`{"endpoint":%q,"image":%q,"hold":{"holder":"test"}}`, c.Endpoint, small))
		} else {
			pushed = append(pushed, first.start(`{"endpoint":%q,"image":%q,"delivery":"push"}`, c.Endpoint, large))
		}
	}
	sockets += 2 // of UDP and DTLS
	for _, u := range held {
		first.await(u.ID, func(u update) bool { return u.State == "downloaded" })
	}
	for _, u := range pushed {
		first.await(u.ID, func(u update) bool { return u.Progress.Bytes > 0 })
	}
	var releases sync.WaitGroup
	for _, u := range held {
		releases.Go(func() { // the answer may never come
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, first.api()+"/updates/"+u.ID+"/release", strings.NewReader(`{"holder":"test"}`))
			if err != nil {
				return
			}
			r.Header.Set("Content-Type", "application/json")
			if answer, err := http.DefaultClient.Do(r); err == nil {
				answer.Body.Close()
			}
		})
	}
	select {
	case <-p.executed:
	case <-time.After(30 * time.Second):
		t.Fatal("no Execute")
	}
	suspend(t, first)
	standby.awaitListening()
	p.mu.Lock()
	p.woken = true
	p.mu.Unlock()
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGCONT))
	select {
	case <-first.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the server that lost its store goes on")
	}
	releases.Wait()
	require.Contains(t, first.text(), "another server has taken over")
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.late, sockets
}

// startGone starts a device whose server goes, so that nothing answers its De-register.
func startGone(t *testing.T, client lwm2m.ClientConfig) {
	device := demo.Device{Client: client, Firmware: device.Config{}, Dir: filepath.Join(t.TempDir(), "device"), Version: "1.0.0"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = device.Run(t.Context()) // until the test ends
	}()
	t.Cleanup(func() { <-done })
}
