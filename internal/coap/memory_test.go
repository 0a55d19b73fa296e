package coap

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The codec allocates nothing.
func TestCodecAllocations(t *testing.T) {
	p := newPacket()
	defer p.free()
	n := copy(p.buf, datagramSeeds[2])
	out := make([]byte, 0, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if p.parse(n) != nil {
			t.Fatal("refused")
		}
		out = p.msg.appendDatagram(out[:0])
	}))
}

// A UDP peer that has made a request takes some bytes, and no goroutine.
func TestIdlePeersAreSmall(t *testing.T) {
	resp := &Response{Code: Content, Payload: []byte("hello")}
	e := New(Config{Handler: HandlerFunc(func(context.Context, *IncomingRequest) *Response { return resp })})
	s := e.newSocket(t.Context(), discard{})
	require.NoError(t, e.enter(s))
	close(s.done)
	defer e.Close()

	goroutines := runtime.NumGoroutine()
	before := heap()
	const peers = 50_000
	p := newPacket()
	for i := range peers {
		n := copy(p.buf, []byte{0x42, 1, 0, 0, 1, 2, 0xb1, 'x'})
		if s.handle(p, n, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 5683), nil) {
			p = newPacket()
		}
		for inPool(e) > 64 {
			runtime.Gosched()
		}
	}
	require.Eventually(t, func() bool { return inPool(e) == 0 }, 20*time.Second, time.Millisecond)
	each := (heap() - before) / peers
	t.Logf("%d bytes each", each)
	require.Less(t, each, int64(300))
	few := func() bool { return runtime.NumGoroutine() <= goroutines+1 }
	require.Eventually(t, few, 20*time.Second, 10*time.Millisecond, "goroutines stay")
	runtime.KeepAlive(e)
}

// TestManyRequestsAtOnce has 10,000 devices send a request while all handlers are busy. None must
// be turned away, each must take little memory while it waits, and must come to the handler as it
// was sent.
func TestManyRequestsAtOnce(t *testing.T) {
	const devices, linksSize = 10_000, 200
	hold, wrong := make(chan struct{}), atomic.Int64{}
	var served, turnedAway atomic.Int64
	e := New(Config{
		Hooks: Hooks{TurnedAway: func(Peer) { turnedAway.Add(1) }},
		Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
			<-hold
			want := r.Peer.Addr.Addr().String()
			if got := r.Queries(); len(got) != 1 || got[0] != want || r.Path() != "/rd" ||
				!bytes.Equal(r.Payload, bytes.Repeat([]byte{want[len(want)-1]}, linksSize)) {
				wrong.Add(1)
			}
			served.Add(1)
			return &Response{Code: Created}
		}),
	})
	s := e.newSocket(t.Context(), discard{})
	require.NoError(t, e.enter(s))
	close(s.done)
	defer e.Close()

	before, p := heap(), newPacket()
	for i := range devices {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		m := wireMessage{code: POST, token: makeToken([]byte{1, 2}), payload: bytes.Repeat([]byte{addr.String()[len(addr.String())-1]}, linksSize)}
		m.options = AppendString(AppendString(nil, URIPath, "rd"), URIQuery, addr.String())
		if s.handle(p, copy(p.buf, m.appendDatagram(nil)), netip.AddrPortFrom(addr, 5683), nil) {
			p = newPacket()
		}
	}
	each := (heap() - before) / devices
	t.Logf("%d bytes each", each)
	require.Zero(t, turnedAway.Load())
	require.Less(t, each, int64(2000)) // with what a peer takes
	close(hold)
	require.Eventually(t, func() bool { return served.Load() == devices }, 20*time.Second, time.Millisecond)
	require.Zero(t, wrong.Load())
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// inPool counts the requests that are served or waiting.
func inPool(e *Endpoint) int {
	return int(e.pool.workers.total() + e.pool.waiting.total())
}
