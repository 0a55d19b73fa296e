package coap

import (
	"context"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
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
	dedup     *dedup // of UDP
	secure    *dedup // of DTLS
	janitor   janitor
	pool      pool
	crew      crew
	reports   reports
	uploads   held[*upload]
	downloads downloads
	echo      echoKey

	uploadBytes *shares      // bodies that are collected in memory
	observers   *shares      // observations of peers
	connections *shares      // streams
	unwritten   atomic.Int64 // bytes that wait to be written to streams
	work        work         // exchanges of ours, and requests that are served
	lastID      atomic.Uint64

	closing chan struct{} // closed by Close

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

		uploadBytes: newShares(cfg.Bounds.UploadBytes, int(groups)),
		observers:   newShares(int64(cfg.Bounds.Observers), int(groups)),
		connections: newShares(int64(cfg.Bounds.Streams), 2),
		closing:     make(chan struct{}),
	}
	// What a flood of forged datagrams pushes out is not that of DTLS.
	entries, size := cfg.Bounds.DedupEntries, cfg.Bounds.DedupBytes
	e.dedup, e.secure = newDedup(entries-entries/4, size-size/4), newDedup(entries/4, size/4)
	e.pool.workers = newShares(int64(cfg.Bounds.Workers), int(groups))
	e.pool.waiting = newShares(int64(cfg.Bounds.Queue), int(groups))
	e.echo = newEchoKey(e.random)
	e.janitor.e = e
	e.crew.init(e)
	e.uploads = newHeld[*upload](e, cfg.Bounds.Uploads, cfg.Bounds.PeerUploads, minUploadIdle)
	e.downloads.held = newHeld[*download](e, cfg.Bounds.Downloads, cfg.Bounds.PeerDownloads, 0)
	return e
}

// ServePacket reads datagrams from conn, which it closes, until ctx ends; then
// lets work in flight finish for [Config.Drain] and returns nil. Several
// sockets may be served at once, also with one local port (SO_REUSEPORT).
func (e *Endpoint) ServePacket(ctx context.Context, conn net.PacketConn) error {
	s := e.newSocket(ctx, conn)
	return e.serve(ctx, s, s.local)
}

// datagramServer is a server that refuses new requests once it drains.
type datagramServer interface {
	server
	serve() error
	drain()
}

// serve has s serve until ctx ends, and what is under way then.
func (e *Endpoint) serve(ctx context.Context, s datagramServer, local netip.AddrPort) error {
	if err := e.enter(s); err != nil {
		return err
	}
	defer e.leaveServer(s)
	stop := context.AfterFunc(ctx, func() {
		s.drain()
		e.drain()
		s.close()
	})
	defer stop()
	err := s.serve()
	switch {
	case err != nil:
		return fmt.Errorf("coap: serve %v: %w", local, err)
	case ctx.Err() == nil && !e.isClosed():
		return fmt.Errorf("coap: serve %v: %w", local, net.ErrClosed)
	}
	return nil
}

// drain waits until nothing is under way, at most for Config.Drain.
func (e *Endpoint) drain() { e.work.wait(e.cfg.Drain, e.closing) }

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

// Close ends everything at once, and waits for the readers to end.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
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
	e.table.close()
	for _, a := range e.table.all(func(*association) bool { return true }) {
		e.end(a)
		a.link.hangup(a)
	}
	e.uploads.close()
	e.downloads.close()
	e.crew.close()
	e.timers.close()
	return nil
}
