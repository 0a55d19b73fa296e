package coap_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// spoof sends n datagrams from as many new addresses.
func spoof(t *testing.T, r *raw, n int, make func(i int) message.Message) {
	t.Helper()
	old := r.conn.Outside()
	for i := range n {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], 0x0b000000+r.spoofed)
		r.spoofed++
		r.conn.Rebind(netip.AddrPortFrom(netip.AddrFrom4(ip), 1000))
		r.send(make(i))
		if i%100 == 99 {
			synctest.Wait()
		}
	}
	synctest.Wait()
	r.conn.Rebind(old)
}

func TestSpoofedSourcesAreBounded(t *testing.T) {
	config := hello()
	config.Bounds = coap.Bounds{Peers: 1000, DedupEntries: 20000, DedupBytes: 1 << 20}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		spoof(t, r, 50_000, func(i int) message.Message { return request(con, codes.GET, int32(i%65536), "x") })
		h := coap.Holds(e)
		require.LessOrEqual(t, h.Peers, 1000)
		require.LessOrEqual(t, h.Dedup, 20000)
		require.LessOrEqual(t, h.DedupBytes, 1<<20)
		r.send(request(con, codes.GET, 1, "x"))
		require.Equal(t, codes.Content, r.receive().Code)

		pass(10 * time.Minute)
		require.Equal(t, coap.Held{Timers: coap.Holds(e).Timers}, coap.Holds(e), "all is forgotten in the end")
	})
}

// A flood pushes out silent peers, not active ones.
func TestActivePeersOutliveAFlood(t *testing.T) {
	var calls atomic.Int32
	config := coap.Config{Bounds: coap.Bounds{Peers: 1000}, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Code == coap.POST {
			calls.Add(1)
		}
		return &coap.Response{Code: coap.Changed}
	})}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for i := range int32(10) {
			r.send(request(con, codes.POST, i, "x"))
			require.Equal(t, codes.Changed, r.receive().Code)
			spoof(t, r, 800, func(j int) message.Message { return request(con, codes.GET, int32(j), "x") })
			r.send(request(con, codes.POST, i, "x"))
			require.Equal(t, codes.Changed, r.answerTo(i).Code)
			require.EqualValues(t, i+1, calls.Load(), "a duplicate was not recognised")
			pass(time.Second)
		}
	})
}

// Unknown peers that make no request cost nothing.
func TestStrangersCostNothing(t *testing.T) {
	inRaw(t, hello(), func(t *testing.T, e *coap.Endpoint, r *raw) {
		spoof(t, r, 1000, func(i int) message.Message {
			return message.Message{Type: con, Code: codes.Content, MessageID: 1, Token: message.Token{1}}
		})
		require.Equal(t, coap.Held{}, coap.Holds(e))
	})
}

func TestUnfinishedUploadsAreBounded(t *testing.T) {
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Changed} })}
	config.Bounds = coap.Bounds{Uploads: 100, UploadBytes: 1 << 20}
	config.MaxBody = 64 << 10
	config.UploadIdle = 30 * time.Second
	first := func(i int) message.Message {
		m := request(con, codes.PUT, int32(i%65536), "x", option(message.Block1, 0x0e))
		m.Payload = make([]byte, 1024)
		return m
	}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(first(1))
		require.Equal(t, codes.Continue, r.receive().Code)
		pass(900 * time.Millisecond)
		spoof(t, r, 1000, first)
		m := request(con, codes.PUT, 2, "x", option(message.Block1, 0x16))
		m.Payload = make([]byte, 1000)
		r.send(m)
		require.Equal(t, codes.Changed, r.answerTo(2).Code, "an honest one was not pushed out")
		h := coap.Holds(e)
		require.LessOrEqual(t, h.Uploads, 100)
		require.LessOrEqual(t, h.UploadBytes, int64(1<<20))

		// An honest client gets in after a short wait.
		pass(11 * time.Second)
		r.send(first(7))
		require.Equal(t, codes.Continue, r.receive().Code)
		pass(40 * time.Second)
		h = coap.Holds(e)
		require.Zero(t, h.Uploads)
		require.Zero(t, h.UploadBytes)
	})
}

func TestUploadsOfOnePeerAreBounded(t *testing.T) {
	config := hello()
	config.Bounds.PeerUploads = 4
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for i := range int32(50) {
			m := request(con, codes.PUT, i, string('a'+i), option(message.Block1, 0x0e))
			m.Payload = make([]byte, 1024)
			r.send(m)
			require.Equal(t, codes.Continue, r.receive().Code)
		}
		require.Equal(t, 4, coap.Holds(e).Uploads)
	})
}

func TestSlowHandlerDelaysNoOther(t *testing.T) {
	config := coap.Config{Handler: coap.HandlerFunc(func(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
		if r.Path() == "/slow" {
			pass(2 * time.Second)
		}
		return &coap.Response{Code: coap.Content}
	})}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for i := range int32(200) {
			r.send(request(con, codes.GET, i, "slow"))
		}
		synctest.Wait()
		// Requests of one peer beyond those that may run and wait get no answer.
		r.silence(10 * time.Millisecond)
		require.Equal(t, 40, coap.Underway(e))

		slow := r.conn.Outside()
		r.conn.Rebind(netip.MustParseAddrPort("10.0.0.3:1000"))
		start := time.Now()
		r.send(request(con, codes.GET, 1, "quick"))
		require.Equal(t, codes.Content, r.receive().Code)
		require.Zero(t, time.Since(start))
		r.conn.Rebind(slow)
		pass(time.Minute)
	})
}

func TestFullPool(t *testing.T) {
	config := coap.Config{
		Bounds: coap.Bounds{Workers: 2, Queue: 3},
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			pass(time.Second / 4)
			return &coap.Response{Code: coap.Content}
		}),
	}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for i := range int32(10) {
			r.send(request(con, codes.GET, i, "x"))
		}
		served := make(map[int32]bool)
		for range 5 {
			m, ok := r.receiveWithin(5 * time.Second)
			require.True(t, ok)
			require.Equal(t, codes.Content, m.Code)
			served[m.MessageID] = true
		}
		require.Len(t, served, 5)
		r.silence(5 * time.Second) // the others are retransmitted after 2 s or more
		for i := range int32(10) {
			if !served[i] {
				r.send(request(con, codes.GET, i, "x"))
				m, ok := r.receiveWithin(time.Second)
				require.True(t, ok)
				require.Equal(t, codes.Content, m.Code, "one that was left unanswered is not taken for a duplicate")
			}
		}
	})
}

// Requests that wait for others of their peer count as waiting requests.
func TestWaitingRequestsAreBounded(t *testing.T) {
	var free chan struct{}
	config := coap.Config{
		Bounds: coap.Bounds{Workers: 4, Queue: 10, PeerWorkers: 1, PeerQueue: 5},
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			<-free
			return &coap.Response{Code: coap.Content}
		}),
	}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		free = make(chan struct{})
		for i := range 40 {
			// Ten from each of four peers.
			r.conn.Rebind(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, byte(i % 4)}), 1000))
			r.send(request(con, codes.GET, int32(i), "x"))
			synctest.Wait()
		}
		require.Equal(t, 4+6, coap.Underway(e), "four of the ten places are kept for the peers of other transports")
		close(free)
		synctest.Wait()
		require.Zero(t, coap.Underway(e))
		r.send(request(con, codes.GET, 100, "x"))
		require.Equal(t, codes.Content, r.answerTo(100).Code)
	})
}

func TestPanicIsAnswered(t *testing.T) {
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { panic("oops") })}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x"))
		require.Equal(t, codes.InternalServerError, r.receive().Code)
	})
}

func TestOversizeDatagram(t *testing.T) {
	inRaw(t, hello(), func(t *testing.T, e *coap.Endpoint, r *raw) {
		big := append([]byte{0x41, 0x03, 0, 1, 9, 0xff}, make([]byte, 5000)...)
		r.sendBytes(big)
		m := r.receive()
		require.Equal(t, codes.RequestEntityTooLarge, m.Code)
		require.Equal(t, "0/0/1024", shorthand(m.Options, message.Block1))
	})
}

// When serving ends, a request in progress is still answered; a new one is not.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var device sync.WaitGroup
		slow := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
			pass(2 * time.Second)
			return &coap.Response{Code: coap.Content}
		})}
		w := newWorld(t, slow, coap.Config{})
		w.net.SetDefault(simnet.Conditions{Delay: time.Millisecond})
		device.Go(func() {
			resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET})
			if err != nil || resp.Code != coap.Content {
				t.Errorf("in flight: %v %v", resp, err)
			}
		})
		pass(time.Second)
		start := time.Now()
		device.Go(func() {
			pass(500 * time.Millisecond)
			resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.POST})
			if err != nil || resp.Code != coap.ServiceUnavailable {
				t.Errorf("new: %v %v", resp, err)
			}
		})
		w.endServing()
		require.Less(t, elapsed(start), 2*time.Second)
		device.Wait()
		w.stop()
	})
}

func TestProgressOfPulls(t *testing.T) {
	body := bodyOf(3000)
	var ends []int64
	config := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: 3000, ETag: []byte{1}, Progress: func(end, size int64) { ends = append(ends, end) }}
	})}
	inWorld(t, config, coap.Config{}, func(t *testing.T, w *world) {
		var got bytes.Buffer
		_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Into: &got})
		require.NoError(t, err)
		require.Equal(t, []int64{1024, 2048, 3000}, ends)
	})
}
