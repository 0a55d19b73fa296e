package coap

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// dtlsSocket is a UDP socket with all its DTLS peers. It finds for a datagram
// the association, by Connection ID or by address, or the handshake.
type dtlsSocket struct {
	e    *Endpoint
	cfg  DTLSConfig
	udp  *socket        // reads and writes for us
	only netip.AddrPort // the server of a dialled socket

	local    netip.AddrPort
	ctx      context.Context
	draining atomic.Bool
	read     chan struct{} // closed when the reader and all handshakes have ended
	running  sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	places    map[netip.AddrPort]place
	byCID     map[connectionID]cidOwner
	byOwner   map[uint64][]*dtlsSession
	strangers list.List // *dtlsHandshake, address not verified, the oldest first
	guests    list.List // *dtlsHandshake, address verified, the oldest first
}

// place is what there is at an address.
type place struct {
	session   *dtlsSession
	handshake *dtlsHandshake
}

// cidOwner is whose Connection ID it is: one of both.
type cidOwner = place

func (e *Endpoint) newDTLSSocket(ctx context.Context, conn net.PacketConn, cfg DTLSConfig) *dtlsSocket {
	udp := e.newSocket(ctx, conn)
	return &dtlsSocket{
		e: e, cfg: cfg, udp: udp, local: udp.local, ctx: udp.ctx, read: make(chan struct{}),
		places:  make(map[netip.AddrPort]place),
		byCID:   make(map[connectionID]cidOwner),
		byOwner: make(map[uint64][]*dtlsSession),
	}
}

func (s *dtlsSocket) writeTo(b []byte, addr netip.AddrPort, from *localAddress) error {
	return s.udp.writeTo(b, addr, from)
}

// serve reads until the socket is closed.
func (s *dtlsSocket) serve() error {
	defer func() {
		s.close()
		ended := make(chan struct{})
		go func() {
			s.running.Wait()
			close(ended)
		}()
		limit := time.NewTimer(s.e.cfg.Drain)
		defer limit.Stop()
		within(limit, ended) // a look-up of a key may not return
		close(s.read)
	}()
	b := make([]byte, maxRecord)
	for failures := 0; ; {
		n, addr, at, err := s.udp.readFrom(b)
		switch {
		case err == nil:
			failures = 0
			if s.only.IsValid() && addr != s.only {
				continue
			}
			s.receive(b[:n], addr, at)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		default:
			// See socket.serve.
			if failures++; failures > 100 {
				return err
			}
			select {
			case <-time.After(time.Duration(failures) * time.Millisecond):
			case <-s.ctx.Done():
				return nil
			}
		}
	}
}

// receive finds out whose a datagram is.
func (s *dtlsSocket) receive(b []byte, addr netip.AddrPort, local *localAddress) {
	r, _, err := nextRecord(b, cidSize)
	if err != nil || r.typ < recordChangeCipherSpec || r.typ > recordWithCID || r.epoch > 1 {
		return
	}
	s.mu.Lock()
	at := s.places[addr]
	if r.typ == recordWithCID {
		at = s.byCID[connectionID(r.raw[11:])]
	}
	if hello, ok := parseHello(b); ok && !s.only.IsValid() {
		at = s.hello(at, &hello, addr, local)
	}
	s.mu.Unlock()

	h := at.handshake
	switch {
	case h != nil && h.finishing():
		h.postpone(b)
	case h != nil && (r.epoch == 0 || r.typ == recordHandshake || r.typ == recordWithCID):
		h.feed(b)
	case h != nil && at.session == nil:
		h.postpone(b)
	case at.session != nil:
		at.session.receive(b, addr, local)
	}
}

func (s *dtlsSocket) drain() { s.draining.Store(true) }

func (s *dtlsSocket) finished() <-chan struct{} { return s.read }

// close tells all peers, and ends all.
func (s *dtlsSocket) close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	var sessions []*dtlsSession
	for _, list := range s.byOwner {
		sessions = append(sessions, list...)
	}
	for _, l := range []*list.List{&s.strangers, &s.guests} {
		for l.Len() > 0 {
			s.drop(l.Front().Value.(*dtlsHandshake), net.ErrClosed)
		}
	}
	for _, at := range s.places {
		if at.handshake != nil {
			at.handshake.abort(net.ErrClosed)
		}
	}
	s.mu.Unlock()
	for _, ss := range sessions {
		ss.farewell()
		ss.end()
	}
	s.udp.close()
}
