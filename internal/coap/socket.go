package coap

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/otago-iot/otago/internal/udp"
)

// socket is a UDP socket with its peers, and the [link] of their associations.
type socket struct {
	e    *Endpoint
	conn *udp.Conn
	id   uint64                // Peer.ID of its peers
	only netip.AddrPort        // the one peer of a dialled socket
	ps   [udp.MaxBatch]*packet // the reader's packets
	ctx  context.Context
	stop context.CancelFunc

	home     home // of its associations
	origin   origin
	draining atomic.Bool
	done     chan struct{} // closed when the reader has ended
}

func (e *Endpoint) newSocket(ctx context.Context, conn net.PacketConn) *socket {
	s := &socket{e: e, conn: udp.New(conn), done: make(chan struct{})}
	s.conn.SetGate(e.config.Gate)
	s.home = home{e: e, link: s, origin: &s.origin}
	if s.conn.Addr().IsValid() {
		s.id = uint64(s.conn.Addr().Port())
	} else {
		s.id = 1<<32 + e.random.uint64()>>32
	}
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// Addr implements [datagramServer].
func (s *socket) Addr() netip.AddrPort { return s.conn.Addr() }

// Serve implements [datagramServer].
func (s *socket) Serve() error {
	defer close(s.done)
	defer func() {
		for _, p := range s.ps {
			if p != nil {
				p.free()
			}
		}
	}()
	room := func(i int) []byte {
		if s.ps[i] == nil {
			s.ps[i] = newPacket()
		}
		return s.ps[i].buf
	}
	return s.conn.Serve(s.only, room, func(i, n int, from netip.AddrPort, at *udp.Local) {
		if s.handle(s.ps[i], n, from, at) {
			s.ps[i] = nil
		}
	})
}

// handle takes a datagram, and reports whether it keeps the packet. It makes an association for an
// unknown address only if the datagram is a request.
func (s *socket) handle(p *packet, n int, addr netip.AddrPort, at *udp.Local) (kept bool) {
	answer, err := p.read(n, s.e.szx)
	if err != nil {
		if t := s.e.tracer.Load(); t != nil {
			peer := Peer{UDP, addr, s.id}
			traceMalformed(*t, &TracedMessage{Peer: peer, Remote: addr, Local: s.conn.LocalAddr(addr, at), Err: err}, p.buf[:n])
		}
		if answer != nil {
			_ = s.conn.WriteTo(answer, addr, at)
		}
		return false
	}
	a := s.e.table.get(Peer{UDP, addr, s.id})
	switch {
	case a == nil && isRequest(p.msg.code) && p.msg.typ <= nonConfirmable:
		if a = s.association(addr); a == nil {
			return false
		}
	case a == nil:
		if p.msg.typ == confirmable || p.msg.typ == nonConfirmable && isResponse(p.msg.code) {
			_ = s.conn.WriteTo(appendEmpty(nil, reset, p.msg.mid), addr, at)
			s.e.rejected(Peer{UDP, addr, s.id}, &p.msg)
		}
		return false
	}
	a.local.Store(at)
	return s.e.receive(a, p)
}

// association returns the association with addr, and makes it if necessary. It returns nil if there
// are too many or the socket is closed.
func (s *socket) association(addr netip.AddrPort) *association {
	peer := Peer{UDP, addr, s.id}
	if a := s.e.table.get(peer); a != nil {
		return a
	}
	a, _ := s.e.open(peer, &s.home)
	if a != nil && s.only.IsValid() {
		a.verified.Store(true) // a dialled socket has no other peer
	}
	if a != nil && s.ctx.Err() != nil {
		// Closing the socket may have ended its associations before this one was made. If kept, it
		// would block the same peer on another socket.
		s.e.end(a)
		return nil
	}
	return a
}

func (s *socket) write(a *association, record []byte) error {
	return s.conn.WriteTo(record, a.peer.Addr, a.local.Load())
}

func (s *socket) context() context.Context { return s.ctx }

// Drain implements [datagramServer].
func (s *socket) Drain() { s.draining.Store(true) }

func (s *socket) accepting() bool { return !s.draining.Load() }

func (s *socket) hangup(*association) {
	if s.only.IsValid() {
		s.Close()
	}
}

// Done implements [server].
func (s *socket) Done() <-chan struct{} { return s.done }

// Close implements [server].
func (s *socket) Close() {
	s.stop()
	s.conn.Close()
}

func (s *socket) localAddr(a *association) netip.AddrPort {
	return s.conn.LocalAddr(a.peer.Addr, a.local.Load())
}
