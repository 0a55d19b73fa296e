package coap_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

// roaming is a device behind a NAT with an association to a server.
type roaming struct {
	server   *secureServer
	nat      *nat
	device   *coap.Endpoint
	toServer coap.Peer
	peers    chan coap.Peer // of requests to the server
	body     []byte
	pushed   chan *recorder
	secure   dtls.Credentials
}

func newRoaming(t *testing.T, noCID bool) *roaming {
	r := &roaming{peers: make(chan coap.Peer, 64), body: bodyOf(64 << 10), pushed: make(chan *recorder, 4), secure: pskClient()}
	r.secure.NoConnectionID = noCID
	// With a Connection ID nothing may be lost. What waits for a retransmission fails.
	there, here := coap.Transmission{ACKTimeout: time.Minute}, coap.Transmission{ACKTimeout: time.Minute}
	if noCID {
		there, here = coap.Transmission{}, coap.Transmission{ACKTimeout: 200 * time.Millisecond, MaxRetransmit: 2}
	}
	r.server = serveDTLS(t, coap.Config{Transmission: there, Handler: handler(func(q *coap.IncomingRequest) *coap.Response {
		if q.Path() == "/hello" {
			r.peers <- q.Peer
			return &coap.Response{Code: coap.Changed}
		}
		return &coap.Response{Code: coap.Content, Body: bytes.NewReader(r.body), Size: int64(len(r.body)), ETag: []byte{1}}
	})}, pskOf(testIdentity, testKey))
	r.nat = newNAT(t, r.server.addr)
	var current *recorder // of the body in transfer
	r.device = coap.New(coap.Config{
		Transmission: here,
		Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) {
			current = new(recorder)
			return current, nil
		},
		Handler: handler(func(*coap.IncomingRequest) *coap.Response {
			r.pushed <- current
			return &coap.Response{Code: coap.Changed}
		}),
	})
	t.Cleanup(func() { r.device.Close() })
	r.dial(t)
	return r
}

// dial makes an association, and introduces it to the server by a request.
func (r *roaming) dial(t *testing.T) (toDevice coap.Peer) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r.toServer, err = r.device.DialDTLS(ctx, conn, r.nat.addr(), r.secure)
	require.NoError(t, err)
	return r.hello(t)
}

func (r *roaming) hello(t *testing.T) (toDevice coap.Peer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := r.device.Do(ctx, r.toServer, &coap.Request{Code: coap.POST, Path: []string{"hello"}})
	require.NoError(t, err)
	return <-r.peers
}

// TestRoamingWithConnectionID changes a device's address in the middle of a push and of a pull.
// Nothing is lost: neither waits for a retransmission.
func TestRoamingWithConnectionID(t *testing.T) {
	r := newRoaming(t, false)
	toDevice := r.hello(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, at := range []int{1, 30, 63} {
		before := r.nat.public()
		r.nat.rebindAt(at)
		resp, err := r.server.Do(ctx, toDevice, &coap.Request{Code: coap.PUT, Path: []string{"5"}, Payload: r.body})
		require.NoError(t, err)
		require.Equal(t, coap.Changed, resp.Code)
		require.True(t, bytes.Equal(r.body, (<-r.pushed).bytes()))
		require.NotEqual(t, before, r.nat.public())
		require.Equal(t, r.nat.public(), r.server.RemoteAddr(toDevice))

		before = r.nat.public()
		r.nat.rebindAt(at)
		var got bytes.Buffer
		_, err = r.device.Do(ctx, r.toServer, &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &got})
		require.NoError(t, err)
		require.True(t, bytes.Equal(r.body, got.Bytes()))
		require.NotEqual(t, before, r.nat.public())
		require.Equal(t, toDevice, r.hello(t), "it is the same association")
	}
}

// TestRoamingWithoutConnectionID does the same without a Connection ID. The association is lost;
// over a new one each transfer continues at the next block.
func TestRoamingWithoutConnectionID(t *testing.T) {
	r := newRoaming(t, true)
	toDevice := r.hello(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	// A push. The server's request ends when the device uses a new association.
	r.nat.rebindAt(30)
	pushing, interrupt := context.WithCancel(ctx)
	failed := make(chan error, 1)
	halfway := make(chan struct{})
	go func() {
		_, err := r.server.Do(pushing, toDevice, &coap.Request{
			Code: coap.PUT, Path: []string{"5"}, Payload: r.body,
			Progress: func(done, _ int64) {
				if done == 29<<10 {
					close(halfway)
				}
			},
		})
		failed <- err
	}()
	<-halfway
	again := r.dial(t)
	require.NotEqual(t, toDevice, again)
	interrupt()
	failure, ok := errors.AsType[*coap.ExchangeError](<-failed)
	require.True(t, ok)
	require.Equal(t, int64(29<<10), failure.Done)
	resp, err := r.server.Do(ctx, again, &coap.Request{
		Code: coap.PUT, Path: []string{"5"}, Payload: r.body, BodyOffset: failure.Done,
	})
	require.NoError(t, err)
	require.Equal(t, coap.Changed, resp.Code)
	require.True(t, bytes.Equal(r.body, (<-r.pushed).bytes()))

	// A pull. The device gives up, and continues on another association.
	r.nat.rebindAt(30)
	var got bytes.Buffer
	_, err = r.device.Do(ctx, r.toServer, &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &got, Stall: time.Millisecond})
	require.ErrorIs(t, err, coap.ErrTimeout)
	failure, ok = errors.AsType[*coap.ExchangeError](err)
	require.True(t, ok)
	require.Positive(t, failure.Done)
	require.LessOrEqual(t, failure.Done, int64(29<<10)) // less if the device repeated a request on a busy machine
	require.Equal(t, int(failure.Done), got.Len())
	r.dial(t)
	_, err = r.device.Do(ctx, r.toServer, &coap.Request{
		Code: coap.GET, Path: []string{"x"}, Into: &got, Offset: failure.Done, ETag: failure.ETag,
	})
	require.NoError(t, err)
	require.True(t, bytes.Equal(r.body, got.Bytes()))
}

// TestLateRecord delivers a record late, from another address. It is accepted, but does not move
// the device.
func TestLateRecord(t *testing.T) {
	r := newRoaming(t, false)
	toDevice := r.hello(t)
	r.nat.mu.Lock()
	r.nat.hold = true
	r.nat.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.device.Do(ctx, r.toServer, &coap.Request{Code: coap.POST, Path: []string{"hello"}, NonConfirmable: true})
		done <- err
	}()
	held := func() []byte {
		r.nat.mu.Lock()
		defer r.nat.mu.Unlock()
		return r.nat.held
	}
	require.Eventually(t, func() bool { return held() != nil }, 20*time.Second, time.Millisecond)
	cancel()
	<-done
	r.hello(t)
	elsewhere, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer elsewhere.Close()
	_, err = elsewhere.WriteToUDPAddrPort(held(), r.server.addr)
	require.NoError(t, err)
	require.Equal(t, toDevice, <-r.peers, "it was served")
	require.Equal(t, r.nat.public(), r.server.RemoteAddr(toDevice))
}

// TestUnprovenAddress captures a record of a device and sends it from another address. The server
// sends little there, and returns to the device with its next record.
func TestUnprovenAddress(t *testing.T) {
	r := newRoaming(t, false)
	toDevice := r.hello(t)
	thief, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer thief.Close()
	r.nat.mu.Lock()
	r.nat.thief = thief
	r.nat.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.device.Do(ctx, r.toServer, &coap.Request{Code: coap.POST, Path: []string{"hello"}, NonConfirmable: true})
		done <- err
	}()
	<-r.peers
	cancel()
	<-done
	require.Equal(t, thief.LocalAddr().String(), r.server.RemoteAddr(toDevice).String())

	for range 20 {
		_, err := r.server.Do(t.Context(), toDevice, &coap.Request{
			Code: coap.PUT, Path: []string{"5"}, Payload: []byte("x"), NonConfirmable: true, Idle: 10 * time.Millisecond,
		})
		require.ErrorIs(t, err, coap.ErrTimeout)
	}
	stolen := 0
	b := make([]byte, 2048)
	for {
		require.NoError(t, thief.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		if _, err := thief.Read(b); err != nil {
			break
		}
		stolen++
	}
	require.Positive(t, stolen)
	require.LessOrEqual(t, stolen, 8)

	r.hello(t)
	require.Equal(t, r.nat.public(), r.server.RemoteAddr(toDevice))
	for range 20 {
		_, err := r.server.Do(t.Context(), toDevice, &coap.Request{Code: coap.PUT, Path: []string{"5"}, Payload: []byte("x")})
		require.NoError(t, err)
		<-r.pushed
	}
}
