package coap_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// ending records how a call ended.
type ending struct {
	calls int
	resp  *coap.Response
	err   error
}

// begin begins a request with e. Read the ending only after synctest.Wait.
func begin(e *coap.Endpoint, p coap.Peer, r *coap.Request) (*coap.Call, *ending) {
	end := new(ending)
	c := e.Go(p, r, func(resp *coap.Response, err error) {
		end.calls++
		end.resp, end.err = resp, err
	})
	return c, end
}

// done is called once, also if the request cannot begin, and never within Go.
func TestDoneComesOnce(t *testing.T) {
	inWorld(t, hello(), coap.Config{}, func(t *testing.T, w *world) {
		nobody := coap.Peer{Transport: coap.DTLS, ID: 77}
		long := string(make([]byte, 256))
		for _, test := range []struct {
			to  coap.Peer
			r   coap.Request
			err error
		}{
			{w.toServer, coap.Request{Code: coap.GET}, nil},
			{w.toServer, coap.Request{Code: coap.PUT, Body: bytes.NewReader(nil), Size: 1}, io.ErrUnexpectedEOF},
			{w.toServer, coap.Request{Code: coap.GET, Offset: 1}, coap.ErrTooLarge},
			{w.toServer, coap.Request{Code: coap.GET, Path: []string{long}}, nil},
			{nobody, coap.Request{Code: coap.GET}, coap.ErrNoPeer},
		} {
			var mu sync.Mutex
			var calls int
			var err error
			mu.Lock()
			c := w.device.Go(test.to, &test.r, func(_ *coap.Response, e error) {
				mu.Lock()
				defer mu.Unlock()
				calls++
				err = e
			})
			mu.Unlock()
			synctest.Wait()
			pass(time.Second)
			c.Cancel(nil)
			synctest.Wait()
			require.Equal(t, 1, calls)
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
			}
			if err != nil {
				_, ok := errors.AsType[*coap.ExchangeError](err)
				require.True(t, ok, "%v", err)
			}
		}
		require.NoError(t, w.device.Close())
		_, end := begin(w.device, w.toServer, &coap.Request{Code: coap.GET})
		synctest.Wait()
		require.Equal(t, 1, end.calls)
		require.ErrorIs(t, end.err, coap.ErrClosed)
	})
}

// Cancel ends a request whatever it waits for, and nothing more is sent.
func TestCancelWhateverItWaitsFor(t *testing.T) {
	image := bodyOf(5000)
	for _, test := range []struct {
		name  string
		reach func(t *testing.T, r *raw) // what happens before Cancel
		acked bool
		done  int64
	}{
		{"the first answer", func(t *testing.T, r *raw) { r.receive() }, false, 0},
		{"the answer to a repetition", func(t *testing.T, r *raw) {
			r.receive()
			_, again := r.receiveWithin(4 * time.Second)
			require.True(t, again)
		}, false, 0},
		{"a separate response", func(t *testing.T, r *raw) {
			r.send(message.Message{Type: ack, MessageID: r.receive().MessageID})
		}, true, 0},
		{"the answer to a block", func(t *testing.T, r *raw) {
			m := r.receive()
			b, _ := blockOf(m, message.Block1)
			r.send(withBlock(message.Message{Type: ack, Code: codes.Continue, MessageID: m.MessageID, Token: m.Token}, message.Block1, b))
			r.receive()
		}, true, 1024},
		{"a pause", func(t *testing.T, r *raw) {
			m := r.receive()
			r.send(message.Message{Type: ack, Code: codes.ServiceUnavailable, MessageID: m.MessageID, Token: m.Token})
		}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
				c, end := begin(e, r.peer(), &coap.Request{Code: coap.PUT, Body: bytes.NewReader(image), Size: 5000})
				test.reach(t, r)
				synctest.Wait()
				require.Zero(t, end.calls)
				c.Cancel(errEnough)
				c.Cancel(context.Canceled)
				synctest.Wait()
				require.Equal(t, 1, end.calls)
				require.ErrorIs(t, end.err, errEnough)
				require.NotErrorIs(t, end.err, context.Canceled)
				failed, _ := errors.AsType[*coap.ExchangeError](end.err)
				require.True(t, failed.Sent)
				require.Equal(t, test.acked, failed.Acknowledged)
				require.Equal(t, test.done, failed.Done)
				r.silence(10 * time.Minute)
				c.Cancel(nil)
				synctest.Wait()
				require.Equal(t, 1, end.calls)
				require.Zero(t, coap.Underway(e))
			})
		})
	}
}

// A request cancelled in the queue was never sent; one cancelled later makes room for the next.
func TestCancelInTheQueue(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		first, _ := begin(e, r.peer(), &coap.Request{Code: coap.GET, Path: []string{"1"}})
		second, end := begin(e, r.peer(), &coap.Request{Code: coap.GET, Path: []string{"2"}})
		begin(e, r.peer(), &coap.Request{Code: coap.GET, Path: []string{"3"}})
		r.receive()
		second.Cancel(errEnough)
		synctest.Wait()
		require.ErrorIs(t, end.err, errEnough)
		require.NotErrorIs(t, end.err, coap.ErrDeliveryUnknown)
		r.silence(time.Second)
		first.Cancel(errEnough)
		path, err := r.receive().Options.Path()
		require.NoError(t, err)
		require.Equal(t, "/3", path)
	})
}

// countingConn counts writes.
type countingConn struct {
	net.PacketConn
	writes atomic.Int64
}

func (c *countingConn) WriteTo(b []byte, to net.Addr) (int, error) {
	c.writes.Add(1)
	return c.PacketConn.WriteTo(b, to)
}

// Nothing is sent after Cancel has returned, at whatever moment it was called.
func TestNothingLeavesAfterCancel(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	counting := &countingConn{PacketConn: conn}
	e := coap.New(coap.Config{Transmission: coap.Transmission{ACKTimeout: 20 * time.Microsecond, MaxRetransmit: 2}})
	defer e.Close()
	peer, err := e.DialPacket(counting, silent.LocalAddr().(*net.UDPAddr).AddrPort())
	require.NoError(t, err)
	image := bytes.NewReader(bodyOf(2000))
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	for i := range rounds {
		done := make(chan error, 1)
		c := e.Go(peer, &coap.Request{Code: coap.PUT, Body: image, Size: image.Size(), Stall: time.Hour}, func(_ *coap.Response, err error) { done <- err })
		for range i % 300 {
			runtime.Gosched()
		}
		c.Cancel(errEnough)
		writes := counting.writes.Load()
		require.ErrorIs(t, <-done, errEnough)
		for range 50 {
			runtime.Gosched()
		}
		require.Equal(t, writes, counting.writes.Load())
	}
	require.Positive(t, counting.writes.Load())
}

// A pause ends with the association, or the endpoint.
func TestPauseEndsWithThePeer(t *testing.T) {
	for name, end := range map[string]func(e *coap.Endpoint, p coap.Peer){
		"hang-up": func(e *coap.Endpoint, p coap.Peer) { e.Hangup(p) },
		"close":   func(e *coap.Endpoint, _ coap.Peer) { e.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
				_, ended := begin(e, r.peer(), &coap.Request{Code: coap.GET, BusyRetry: time.Hour})
				m := r.receive()
				r.send(message.Message{Type: ack, Code: codes.ServiceUnavailable, MessageID: m.MessageID, Token: m.Token})
				synctest.Wait()
				end(e, r.peer())
				synctest.Wait()
				require.Equal(t, 1, ended.calls)
				require.ErrorIs(t, ended.err, coap.ErrPeerGone)
			})
		})
	}
}

// drowsy is a body of 5 bytes whose first reads take so long that the peer is forgotten in the
// meantime.
type drowsy struct{ reads, slow int }

func (d *drowsy) ReadAt(p []byte, _ int64) (int, error) {
	if d.reads++; d.reads <= d.slow {
		pass(time.Hour)
	}
	return copy(p, "drows"), nil
}

// A request begins once more, but only once, if its peer was forgotten before anything was sent.
func TestPeerForgottenMeanwhile(t *testing.T) {
	for slow, want := range []error{nil, nil, coap.ErrPeerGone, coap.ErrPeerGone} {
		server := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Changed} })}
		inWorld(t, server, server, func(t *testing.T, w *world) {
			body := &drowsy{slow: slow}
			_, err := w.server.Do(t.Context(), w.toDevice, &coap.Request{Code: coap.PUT, Body: body, Size: 5})
			require.ErrorIs(t, err, want)
			require.Equal(t, min(slow+1, 2), body.reads)
		})
	}
}
