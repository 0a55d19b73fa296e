package coap

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/dtls"
)

// wire is a link that records what is written.
type wire struct{ records chan []byte }

func (w wire) write(_ *association, record []byte) error {
	w.records <- append([]byte(nil), record...)
	return nil
}
func (wire) context() context.Context              { return context.Background() }
func (wire) accepting() bool                       { return true }
func (wire) hangup(*association)                   {}
func (wire) localAddr(*association) netip.AddrPort { return netip.AddrPort{} }
func (w wire) next(t *testing.T) (reply wireMessage) {
	t.Helper()
	select {
	case record := <-w.records:
		require.NoError(t, reply.parse(record))
	case <-time.After(20 * time.Second):
		t.Fatal("no reply")
	}
	return reply
}

// The upload of a peer with a proven identity continues on its next association. The upload of a
// peer without one, or with another identity, does not.
func TestUploadGoesOnOverAnotherAssociation(t *testing.T) {
	tests := []struct {
		name          string
		first, second *dtls.Identity
		code          Code
	}{
		{"same key", &dtls.Identity{PSKIdentity: []byte("a")}, &dtls.Identity{PSKIdentity: []byte("a")}, Changed},
		{"same certificate", &dtls.Identity{Certificates: [][]byte{{1}, {2}}}, &dtls.Identity{Certificates: [][]byte{{1}, {3}}}, Changed},
		{"other key", &dtls.Identity{PSKIdentity: []byte("a")}, &dtls.Identity{PSKIdentity: []byte("b")}, RequestEntityIncomplete},
		{"key and certificate of the same bytes", &dtls.Identity{PSKIdentity: []byte("a")}, &dtls.Identity{Certificates: [][]byte{[]byte("a")}}, RequestEntityIncomplete},
		{"bytes that look like the other kind", &dtls.Identity{PSKIdentity: []byte("\x00a")}, &dtls.Identity{Certificates: [][]byte{[]byte("a\x00")}}, RequestEntityIncomplete},
		{"nothing proven", nil, nil, RequestEntityIncomplete},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e := New(Config{Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
				if len(r.Payload) != 1500 {
					return &Response{Code: BadRequest}
				}
				return &Response{Code: Changed}
			})})
			defer e.Close()
			link := wire{make(chan []byte, 10)}
			send := func(a *association, b block, n int) Code {
				m := wireMessage{code: PUT, mid: uint16(b.num), payload: make([]byte, n), options: Options{
					{ID: URIPath, Value: []byte("5")}, {ID: Block1, Value: b.append(nil)},
				}}
				p := newPacket()
				size := copy(p.buf, m.appendDatagram(nil))
				require.NoError(t, p.parse(size))
				if !e.receive(a, p) {
					p.free()
				}
				return link.next(t).code
			}
			a, err := e.open(Peer{Transport: DTLS, ID: 1}, &home{e: e, link: link, proven: test.first})
			require.NoError(t, err)
			require.Equal(t, Continue, send(a, block{num: 0, more: true, szx: 6}, 1024))
			e.end(a)
			a, err = e.open(Peer{Transport: DTLS, ID: 2}, &home{e: e, link: link, proven: test.second})
			require.NoError(t, err)
			require.Equal(t, test.code, send(a, block{num: 1, szx: 6}, 476))
		})
	}
}

func TestEndOfAssociation(t *testing.T) {
	closed := make(chan Peer, 1)
	e := New(Config{OnClosed: func(p Peer) { closed <- p }})
	defer e.Close()
	link := wire{make(chan []byte, 10)}
	peer := Peer{Transport: DTLS, ID: 1}
	a, err := e.open(peer, &home{e: e, link: link, proven: &dtls.Identity{PSKIdentity: []byte("a")}})
	require.NoError(t, err)
	require.Equal(t, "a", string(e.Identity(peer).PSKIdentity))
	errs := make(chan error)
	for range 3 { // one is sent, two queue
		go func() {
			_, err := e.Do(context.Background(), peer, &Request{Code: GET})
			errs <- err
		}()
	}
	link.next(t)
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.peek().outbox.queue) == 2
	}, 20*time.Second, time.Millisecond)
	e.end(a)
	e.end(a)
	unknown := 0
	for range 3 {
		err := <-errs
		require.ErrorIs(t, err, ErrPeerGone)
		if errors.Is(err, ErrDeliveryUnknown) {
			unknown++
		}
	}
	require.Equal(t, 1, unknown)
	require.Equal(t, peer, <-closed)
	require.Empty(t, closed)
	require.Nil(t, e.Identity(peer))
	_, err = e.Do(context.Background(), peer, &Request{Code: GET})
	require.ErrorIs(t, err, ErrNoPeer)
}

func TestTooManyRequestsToOnePeer(t *testing.T) {
	e := New(Config{Bounds: Bounds{PeerRequests: 3}})
	defer e.Close()
	peer := Peer{Transport: DTLS, ID: 1}
	a, err := e.open(peer, &home{e: e, link: wire{make(chan []byte, 10)}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error)
	for range 3 {
		go func() {
			_, err := e.Do(ctx, peer, &Request{Code: GET})
			errs <- err
		}()
	}
	require.Eventually(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.peek().outbox.queue)+len(a.peek().outbox.open) == 3
	}, 20*time.Second, time.Millisecond)
	_, err = e.Do(ctx, peer, &Request{Code: GET})
	require.ErrorIs(t, err, ErrBusy)
	cancel()
	for range 3 {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
}

// A closed socket or endpoint gets no new peers: requests to them would wait for ever, and a later
// socket could not reach them.
func TestNoPeersOfAClosedSocket(t *testing.T) {
	addr := netip.MustParseAddrPort("10.0.0.1:5683")
	for _, shut := range []func(*Endpoint, *socket){
		func(_ *Endpoint, s *socket) { s.Close() },
		func(e *Endpoint, s *socket) { e.Close() },
	} {
		e := New(Config{})
		s := e.newSocket(t.Context(), discard{})
		require.NotNil(t, s.association(addr))
		e.end(s.association(addr))
		shut(e, s)
		require.Nil(t, s.association(addr))
		require.Zero(t, e.table.peers.Len())
		e.Close()
	}
}

// The timer that acknowledges a slow request may fire late. It must not acknowledge a later request
// that reuses the memory.
func TestLateAcknowledgementIsForNoOther(t *testing.T) {
	e := New(Config{})
	defer e.Close()
	link := wire{make(chan []byte, 10)}
	a, err := e.open(Peer{Transport: DTLS, ID: 1}, &home{e: e, link: link})
	require.NoError(t, err)
	p := newPacket()
	n := copy(p.buf, []byte{0x40, 1, 0, 7})
	require.NoError(t, p.parse(n))
	first := e.newIncoming(a, p)
	first.timed = true // and due: it is no longer in the heap
	first.settle()
	first.free()
	for range 100 {
		require.NotSame(t, first, e.newIncoming(a, newPacket()))
	}
}
