package coap

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint sends and answers CoAP requests on any number of sockets.
type Endpoint struct {
	cfg       Config
	szx       uint8
	log       *slog.Logger
	seed      maphash.Seed
	random    *random
	timers    *timers
	table     *table
	dedup     *dedup
	janitor   janitor
	pool      pool
	uploads   held[*upload]
	downloads downloads
	echo      echoKey

	uploadBytes atomic.Int64 // bodies that are collected in memory
	underway    atomic.Int64 // exchanges of ours that are not over
	lastID      atomic.Uint64

	mu      sync.Mutex
	closed  bool
	servers []server
	streams map[*stream]struct{}
}

// server is what reads: a socket, a listener. Close has it end at once;
// finished is closed when it has.
type server interface {
	close()
	finished() <-chan struct{}
}

// New returns an endpoint. It starts nothing.
func New(cfg Config) *Endpoint {
	cfg = cfg.withDefaults()
	e := &Endpoint{
		cfg:    cfg,
		szx:    szxOf(cfg.BlockSize),
		log:    cfg.Logger,
		seed:   maphash.MakeSeed(),
		random: newRandom(cfg.Rand, cfg.Transmission.Jitter),
		timers: newTimers(),
		table:  newTable(cfg.Bounds.Peers),
		dedup:  newDedup(cfg.Bounds.DedupEntries, cfg.Bounds.DedupBytes),
		pool:   pool{workers: cfg.Bounds.Workers, waiting: cfg.Bounds.Queue},
	}
	e.echo = newEchoKey(e.random)
	e.janitor.e = e
	e.uploads = held[*upload]{
		e: e, entries: make(map[transferKey]*heldEntry[*upload]),
		max: cfg.Bounds.Uploads, maxPeer: cfg.Bounds.PeerUploads, spare: minUploadIdle,
	}
	e.downloads.held = held[*download]{
		e: e, entries: make(map[transferKey]*heldEntry[*download]),
		max: cfg.Bounds.Downloads, maxPeer: cfg.Bounds.PeerDownloads,
	}
	return e
}

// ServePacket reads datagrams from conn, which it closes, until ctx ends; then
// lets work in flight finish for [Config.Drain] and returns nil. Several
// sockets may be served at once, also with one local port (SO_REUSEPORT).
func (e *Endpoint) ServePacket(ctx context.Context, conn net.PacketConn) error {
	s := e.newSocket(ctx, conn)
	if err := e.enter(s); err != nil {
		return err
	}
	defer e.leaveServer(s)
	stop := context.AfterFunc(ctx, func() {
		s.draining.Store(true)
		e.drain()
		s.close()
	})
	defer stop()
	err := s.serve()
	switch {
	case err != nil:
		return fmt.Errorf("coap: serve %v: %w", s.local, err)
	case ctx.Err() == nil && !e.isClosed():
		return fmt.Errorf("coap: serve %v: %w", s.local, net.ErrClosed)
	}
	return nil
}

// drain waits until nothing is under way, at most for Config.Drain.
func (e *Endpoint) drain() {
	limit := time.NewTimer(e.cfg.Drain)
	defer limit.Stop()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !e.isClosed() && (e.pool.busy() > 0 || e.underway.Load() > 0) {
		select {
		case <-look.C:
		case <-limit.C:
			return
		}
	}
}

// enter has Close end s; if it is too late, it ends s itself.
func (e *Endpoint) enter(s server) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		s.close()
		return ErrClosed
	}
	e.servers = append(e.servers, s)
	return nil
}

// leaveServer ends s and the associations whose link it is.
func (e *Endpoint) leaveServer(s server) {
	s.close()
	e.mu.Lock()
	e.servers = slices.DeleteFunc(e.servers, func(other server) bool { return other == s })
	e.mu.Unlock()
	for _, a := range e.table.all(func(a *association) bool { return any(a.link) == any(s) }) {
		e.end(a)
	}
}

func (e *Endpoint) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Dial returns a peer that is reached through a socket of its own. Requests
// that it sends on it go to the same Handler; what others send is not heard.
// [Endpoint.Hangup] ends it. addr is "host:port". Transports are UDP and TCP; for
// TLS see [Endpoint.DialStream].
func (e *Endpoint) Dial(ctx context.Context, t Transport, addr string) (Peer, error) {
	if t == TCP {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			return Peer{}, fmt.Errorf("coap: dial: %w", err)
		}
		return e.DialStream(ctx, conn)
	}
	if t != UDP {
		return Peer{}, fmt.Errorf("coap: dial %v: %w", t, errors.ErrUnsupported)
	}
	to, err := resolveAddr(ctx, addr)
	if err != nil {
		return Peer{}, fmt.Errorf("coap: dial: %w", err)
	}
	network := "udp4"
	if to.Addr().Is6() {
		network = "udp6"
	}
	conn, err := net.ListenUDP(network, nil)
	if err != nil {
		return Peer{}, fmt.Errorf("coap: dial: %w", err)
	}
	return e.DialPacket(conn, to)
}

func resolveAddr(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return unmap(netip.AddrPortFrom(ips[0], uint16(port))), nil
}

// DialPacket is Dial for UDP over a given socket, which the endpoint owns from
// then on.
func (e *Endpoint) DialPacket(conn net.PacketConn, addr netip.AddrPort) (Peer, error) {
	s := e.newSocket(context.Background(), conn)
	s.only = unmap(addr)
	if err := e.enter(s); err != nil {
		return Peer{}, err
	}
	a := s.association(s.only)
	if a == nil {
		e.leaveServer(s)
		return Peer{}, ErrBusy
	}
	go func() {
		_ = s.serve() // it ends with the socket
		e.leaveServer(s)
	}()
	return a.peer, nil
}

// Hangup ends the association, and closes the socket if it was dialled. What
// waits for the peer fails with ErrPeerGone.
func (e *Endpoint) Hangup(p Peer) {
	if a := e.table.get(p); a != nil {
		a.link.hangup(a)
		e.end(a)
		return
	}
	if s := e.dialled(p); s != nil {
		s.close()
	}
}

// sockets are those of UDP. e.mu is held.
func (e *Endpoint) sockets() iter.Seq[*socket] {
	return func(yield func(*socket) bool) {
		for _, server := range e.servers {
			if s, ok := server.(*socket); ok && !yield(s) {
				return
			}
		}
	}
}

func (e *Endpoint) dialled(p Peer) *socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	for s := range e.sockets() {
		if s.only.IsValid() && s.only == p.Addr && s.id == p.ID && p.Transport == UDP {
			return s
		}
	}
	return nil
}

// Close ends everything at once, and waits for the readers to end.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	e.closed = true
	servers := slices.Clone(e.servers)
	e.mu.Unlock()
	for _, s := range servers {
		s.close()
	}
	var all context.Context
	streams := e.streamsOf(all)
	for _, s := range streams {
		s.close()
	}
	for _, s := range servers {
		<-s.finished()
	}
	for _, s := range streams {
		<-s.read
	}
	for _, a := range e.table.all(func(*association) bool { return true }) {
		e.end(a)
		a.link.hangup(a)
	}
	e.uploads.clear()
	e.downloads.clear()
	e.timers.close()
	return nil
}

// resolve returns the association with p. One with a UDP peer is made if need
// be.
func (e *Endpoint) resolve(p Peer) (*association, error) {
	if a := e.table.get(p); a != nil {
		return a, nil
	}
	if p.Transport != UDP {
		return nil, ErrNoPeer
	}
	addr := unmap(p.Addr)
	s := e.socketFor(addr, p.ID)
	if s == nil {
		return nil, ErrNoPeer
	}
	if a := s.association(addr); a != nil {
		return a, nil
	}
	return nil, ErrBusy
}

// socketFor picks a socket for a UDP peer: with the local port through which
// it was reached before, else any of its address family.
func (e *Endpoint) socketFor(addr netip.AddrPort, id uint64) *socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	var other *socket
	for s := range e.sockets() {
		if s.ctx.Err() != nil || s.only.IsValid() && (s.only != addr || id != s.id) {
			continue
		}
		if s.id == id {
			return s
		}
		local := s.local.Addr()
		if other == nil && (local.Is4() == addr.Addr().Is4() || local.IsUnspecified()) {
			other = s
		}
	}
	return other
}

// Identity returns what p has proven; nil for nothing.
func (e *Endpoint) Identity(p Peer) *Identity {
	if a := e.table.get(p); a != nil {
		return a.proven
	}
	return nil
}

// LocalAddr returns the local address through which p is reached, also when
// the socket is bound to the wildcard. It is invalid for a peer that cannot be
// reached.
func (e *Endpoint) LocalAddr(p Peer) netip.AddrPort {
	if a, err := e.resolve(p); err == nil {
		return a.link.localAddr(a)
	}
	return netip.AddrPort{}
}

// RemoteAddr returns the address at which p was last heard.
func (e *Endpoint) RemoteAddr(p Peer) netip.AddrPort {
	a := e.table.get(p)
	if a == nil {
		return p.Addr
	}
	if roaming, ok := a.link.(interface{ remoteAddr() netip.AddrPort }); ok {
		return roaming.remoteAddr()
	}
	return a.peer.Addr
}
