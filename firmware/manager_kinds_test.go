package firmware_test

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/storetest"
)

// deviceHost is the address of the devices of [world.device].
var (
	serverHost = netip.MustParseAddrPort(serverAddress).Addr()
	deviceHost = netip.MustParseAddr("10.0.1.1")
)

// fetches returns a real download: by CoAP, or by HTTP without a network in between. If the URI is
// a path, the client itself knows the host.
func (w *world) fetches(host string) func(context.Context, string) fsm.Result {
	return func(ctx context.Context, uri string) fsm.Result {
		if _, rest, ok := strings.Cut(uri, "coap://"); ok && rest != "" {
			_, err := lwm2m.Fetch(ctx, uri, io.Discard, lwm2m.FetchConfig{
				Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(host + ":0") },
			})
			if err != nil {
				return fsm.ResultConnectionLost
			}
			return fsm.ResultDefault
		}
		_, path, ok := strings.Cut(uri, "://")
		if ok {
			_, path, _ = strings.Cut(path, "/")
			path = "/" + path
		} else {
			path = uri
		}
		time.Sleep(time.Second)
		answer := httptest.NewRecorder()
		w.delivery.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusOK || int64(answer.Body.Len()) != w.image.Size {
			return fsm.ResultConnectionLost
		}
		return fsm.ResultDefault
	}
}

// A wiretap records when the server sent requests to resources of devices.
type wiretap struct {
	mu   sync.Mutex
	sent map[string][]time.Time // by method and path, such as "POST /5/0/2"
}

var methods = map[byte]string{1: "GET", 2: "POST", 3: "PUT", 4: "DELETE", 5: "FETCH", 7: "iPATCH"}

// requestOf returns the method and the path of a server's request; "" for other datagrams.
func requestOf(p simnet.Packet) (method, path string) {
	if p.From.Addr() != serverHost || len(p.Data) < 4 || methods[p.Data[1]] == "" {
		return "", ""
	}
	rest := p.Data[4+p.Data[0]&15:]
	extended := func(nibble byte) int {
		n := int(nibble)
		switch {
		case nibble == 13 && len(rest) > 0:
			n, rest = 13+int(rest[0]), rest[1:]
		case nibble == 14 && len(rest) > 1:
			n, rest = 269+int(rest[0])<<8+int(rest[1]), rest[2:]
		}
		return n
	}
	for number := 0; len(rest) > 0 && rest[0] != 0xff; {
		head := rest[0]
		rest = rest[1:]
		number += extended(head >> 4)
		length := min(extended(head&15), len(rest))
		if number == 11 {
			path += "/" + string(rest[:length])
		}
		rest = rest[length:]
	}
	return methods[p.Data[1]], path
}

// tap listens to the network.
func (w *world) tap() *wiretap {
	tap := &wiretap{sent: map[string][]time.Time{}}
	w.net.Tap(func(p simnet.Packet) {
		if method, path := requestOf(p); method != "" {
			tap.mu.Lock()
			defer tap.mu.Unlock()
			tap.sent[method+" "+path] = append(tap.sent[method+" "+path], time.Now())
		}
	})
	return tap
}

// times returns when requests of a kind were sent, retransmissions included.
func (t *wiretap) times(name string) []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.sent[name])
}

// requests returns the names of the requests that were sent.
func (t *wiretap) requests() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.sent))
}

// executes counts the datagrams with an Execute.
func (t *wiretap) executes() int { return len(t.times("POST /5/0/2")) }

// phase waits until an update is in a phase.
func (w *world) phase(id string, phase fsm.Phase) firmware.Update {
	w.t.Helper()
	return w.until(id, "phase "+string(phase), func(u firmware.Update) bool { return u.Machine.Phase == phase })
}

// until waits until is reports true for an active update.
func (w *world) until(id, what string, is func(firmware.Update) bool) firmware.Update {
	w.t.Helper()
	for n := range 6000 {
		u, err := w.mgr.Get(w.ctx, id)
		require.NoError(w.t, err)
		if is(u) {
			return u
		}
		require.True(w.t, u.Active(), "%s: %s", what, w.journal(id))
		switch { // some phases are short; the world moves in steps of 20 ms, which this must not meet
		case n < 100:
			time.Sleep(7 * time.Millisecond)
		case n < 1000:
			time.Sleep(100 * time.Millisecond)
		default:
			time.Sleep(5 * time.Second)
		}
	}
	require.Fail(w.t, "it never came to "+what, w.journal(id))
	return firmware.Update{}
}

// begin starts an update.
func (w *world) begin(r firmware.Request) firmware.Update {
	w.t.Helper()
	u, err := w.mgr.Start(w.ctx, r)
	require.NoError(w.t, err)
	return u
}

// ends checks how an update has ended.
func (w *world) ends(u firmware.Update, outcome fsm.Outcome, reason fsm.Reason) {
	w.t.Helper()
	require.Equal(w.t, outcome, u.Machine.Outcome, "outcome\n%s", w.journal(u.ID))
	require.Equal(w.t, reason, u.Machine.Reason, "reason\n%s", w.journal(u.ID))
}

// holds returns the stored fact that the device holds a package.
func (w *world) holds() string {
	w.t.Helper()
	d, err := w.db.Device(w.ctx, endpoint)
	require.NoError(w.t, err)
	return d.Firmware.Holds
}

// unreachable cuts the device off the network, or connects it again.
func (w *world) unreachable(cut bool) { w.net.Partition(serverHost, deviceHost, cut) }

func TestWiretap(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		tap := w.tap()
		w.device(good())
		w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		require.Equal(t, 1, tap.executes())
		require.Len(t, tap.times("PUT /5/0/1"), 1)
	})
}

// A switched device can be switched off and on, and keeps its state.
type switched struct {
	w      *world
	config lwm2m.ClientConfig
	script firmwaretest.Script
	device *firmwaretest.Device
	off    func()
}

// switched starts a device that can be switched off.
func (w *world) switched(script firmwaretest.Script, options ...func(*lwm2m.ClientConfig)) *switched {
	s := &switched{w: w, script: script, config: lwm2m.ClientConfig{
		Endpoint: endpoint, Server: "coap://" + serverAddress, Logger: testLogger(w.t, "device"),
		Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceHost.String() + ":0") },
	}}
	for _, option := range options {
		option(&s.config)
	}
	s.device = firmwaretest.NewDevice(s.config, script)
	s.on()
	return s
}

// on switches the device on.
func (s *switched) on() {
	ctx, cancel := context.WithCancel(s.w.ctx)
	ended := make(chan struct{})
	device := s.device
	s.w.devices.Go(func() {
		_ = device.Run(ctx)
		close(ended)
	})
	s.off = func() {
		cancel()
		<-ended
	}
}

// exchange replaces the device by another one, without its memory.
func (s *switched) exchange() {
	s.off()
	s.device = firmwaretest.NewDevice(s.config, s.script)
	s.on()
}

// sleeps puts a device into queue mode.
func sleeps(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, 2*time.Hour }

// damageOnce calls damage once, when the second block of a package is on its way.
func (w *world) damageOnce(done *atomic.Bool, damage func()) func(simnet.Packet) {
	return func(p simnet.Packet) {
		if p.From.Addr() == serverHost && len(p.Data) > 600 && done.CompareAndSwap(false, true) {
			damage()
		}
	}
}

// faultEvery has every n-th commit that replaces an update fail.
func faultEvery(commits *atomic.Int64, n int64) func(context.Context, storetest.Call) error {
	return func(_ context.Context, call storetest.Call) error {
		if replaces(call) && commits.Add(1)%n == 0 {
			return errDisk
		}
		return nil
	}
}
