package dtls

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/udp"
)

// Config configures a [Socket].
type Config struct {
	Credentials
	// Server is the address of a client's one peer. Zero means that the socket is a server's.
	Server netip.AddrPort
	// Handshakes is how many handshakes may be in progress. Each takes some 55 KB, and 200 KB at
	// most. Default 1000. At the limit, the oldest one whose address is not verified ends.
	Handshakes int
	// IdentitySessions is how many sessions one identity may have. Default 8. Beyond that, the
	// session that was silent longest ends for a new one if it was silent for a minute; with four
	// times as many sessions, it ends in any case.
	IdentitySessions int
	// Gate is that of udp.Conn.
	Gate func() bool
	// Drain limits how long Serve waits for handshakes once the socket is closed. Default 5 s.
	Drain time.Duration
	// Logger gets failed handshakes. Default: no logs.
	Logger *slog.Logger
}

// Handler handles the events of a [Socket].
type Handler interface {
	// Open is called when a handshake is complete, and returns the receiver of the session's
	// records. After an error there is no session. The socket is locked: Open must not call its
	// methods.
	Open(ss *Session, proven *Identity) (Receiver, error)
	// Failed is called when a handshake fails with a client whose address is verified. identity is
	// the beginning of the PSK identity that the client claims, or "". err is the reason; it
	// includes the client's alert. Failed must not block.
	Failed(addr netip.AddrPort, identity string, err error)
}

// Receiver is the user of a [Session].
type Receiver interface {
	// Receive handles the content of a record. It must not keep the content, and must not block.
	Receive(content []byte)
	// Closed is called once, when the session has ended.
	Closed()
}

// Socket is a UDP socket with the sessions of its peers. It finds the session or the handshake for
// each datagram, by Connection ID or by address.
type Socket struct {
	config   Config
	handler  Handler
	conn     *udp.Conn
	log      *slog.Logger
	seed     maphash.Seed
	epoch    time.Time
	ctx      context.Context
	stop     context.CancelFunc
	draining atomic.Bool
	done     chan struct{} // closed when the reader and all handshakes have ended
	running  sync.WaitGroup

	mu         sync.Mutex
	closed     bool
	places     map[netip.AddrPort]place
	byCID      map[connectionID]place // of sessions and handshakes
	byOwner    map[uint64][]*Session
	unverified list.List // *handshake with an unverified address, the oldest first
	verified   list.List // *handshake with a verified address, the oldest first
}

// place is the session or the handshake, or both, of an address or a Connection ID.
type place struct {
	session   *Session
	handshake *handshake
}

// New returns a socket on conn, which it owns from then on. A server needs credentials with which a
// client can prove an identity, else the error is ErrNoCredentials. [Session.Context] has the
// values of ctx; the end of ctx has no effect.
func New(ctx context.Context, conn net.PacketConn, config Config, handler Handler) (*Socket, error) {
	if !config.Server.IsValid() {
		if config.ClientCAs == nil {
			config.Certificate = nil
		}
		if config.PSK == nil && config.Certificate == nil {
			conn.Close()
			return nil, ErrNoCredentials
		}
	}
	config.Server = udp.Unmap(config.Server)
	if config.Handshakes == 0 {
		config.Handshakes = 1000
	}
	if config.IdentitySessions == 0 {
		config.IdentitySessions = 8
	}
	if config.Drain == 0 {
		config.Drain = 5 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Socket{
		config: config, handler: handler, conn: udp.New(conn), log: config.Logger, seed: maphash.MakeSeed(), epoch: time.Now(),
		done:    make(chan struct{}),
		places:  make(map[netip.AddrPort]place),
		byCID:   make(map[connectionID]place),
		byOwner: make(map[uint64][]*Session),
	}
	s.conn.SetGate(config.Gate)
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s, nil
}

// now is the time since the socket was made.
func (s *Socket) now() time.Duration { return time.Since(s.epoch) }

// client reports whether the socket has one peer, the server.
func (s *Socket) client() bool { return s.config.Server.IsValid() }

// Addr returns the local address; see [udp.Conn.Addr].
func (s *Socket) Addr() netip.AddrPort { return s.conn.Addr() }

// Serve reads datagrams until the socket is closed, and then returns nil. It waits for the
// handshakes in progress, but no longer than Config.Drain, because a look-up of a key may not
// return.
func (s *Socket) Serve() error {
	defer func() {
		s.Close()
		ended := make(chan struct{})
		go func() {
			s.running.Wait()
			close(ended)
		}()
		limit := time.NewTimer(s.config.Drain)
		defer limit.Stop()
		select {
		case <-ended:
		case <-limit.C:
		}
		close(s.done)
	}()
	var bufs [udp.MaxBatch][]byte
	room := func(i int) []byte {
		if bufs[i] == nil {
			bufs[i] = make([]byte, maxRecord)
		}
		return bufs[i]
	}
	return s.conn.Serve(s.config.Server, room,
		func(i, n int, from netip.AddrPort, at *udp.Local) { s.receive(bufs[i][:n], from, at) })
}

// Done is closed when Serve is about to return.
func (s *Socket) Done() <-chan struct{} { return s.done }

// Dial makes a session with the server of a client's socket. Serve must be running. Dial takes 60 s
// at most and ends with ctx; the error matches ErrHandshake. It may be called once.
func (s *Socket) Dial(ctx context.Context) (Receiver, error) {
	ss, err := s.dial().run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrHandshake, s.config.Server, err)
	}
	return ss.receiver, nil
}

// receive passes a datagram to its session or handshake.
func (s *Socket) receive(b []byte, addr netip.AddrPort, local *udp.Local) {
	r, _, err := nextRecord(b, cidSize)
	if err != nil || r.typ < recordChangeCipherSpec || r.typ > recordWithCID || r.epoch > 1 {
		return
	}
	s.mu.Lock()
	at := s.places[addr]
	if r.typ == recordWithCID {
		at = s.byCID[connectionID(r.raw[11:])]
	}
	if hello, ok := parseHello(b); ok && !s.client() {
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

// Drain refuses handshakes from now on.
func (s *Socket) Drain() { s.draining.Store(true) }

// Close ends all sessions, with a closure alert to each peer, all handshakes, and the socket. A
// second call does nothing.
func (s *Socket) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	var sessions []*Session
	for _, list := range s.byOwner {
		sessions = append(sessions, list...)
	}
	for _, l := range []*list.List{&s.unverified, &s.verified} {
		for l.Len() > 0 {
			s.drop(l.Front().Value.(*handshake), net.ErrClosed)
		}
	}
	for _, at := range s.places {
		if at.handshake != nil {
			at.handshake.abort(net.ErrClosed)
		}
	}
	s.mu.Unlock()
	for _, ss := range sessions {
		ss.Close()
	}
	s.stop()
	s.conn.Close()
}

// Dialled reports whether the socket is a client's.
func (s *Socket) Dialled() bool { return s.config.Server.IsValid() }

// Handshakes returns how many handshakes are in progress.
func (s *Socket) Handshakes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unverified.Len() + s.verified.Len()
}
