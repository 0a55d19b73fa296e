package coap

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
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
	dedup     *dedup // of UDP
	secure    *dedup // of DTLS
	janitor   janitor
	pool      pool
	workers   workers
	reports   reports
	uploads   held[*upload]
	downloads downloads
	echo      echoKey

	uploadBytes *shares      // bodies that are collected in memory
	observers   *shares      // observations of peers
	connections *shares      // streams
	unwritten   atomic.Int64 // bytes that wait to be written to streams
	gate        gate
	work        work // exchanges of ours, and requests that are served
	lastID      atomic.Uint64

	closing chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	servers []server
	streams map[*stream]struct{}
	mute    [groups]list.List // of *stream: without a request so far, the oldest first
}

// server is a socket with its reader. Close ends it at once; Done is closed when it has ended.
type server interface {
	Close()
	Done() <-chan struct{}
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
	// A flood of forged datagrams must not push out what DTLS peers need.
	entries, size := cfg.Bounds.DedupEntries, cfg.Bounds.DedupBytes
	e.dedup, e.secure = newDedup(entries-entries/4, size-size/4), newDedup(entries/4, size/4)
	e.pool.workers = newShares(int64(cfg.Bounds.Workers), int(groups))
	e.pool.waiting = newShares(int64(cfg.Bounds.Queue), int(groups))
	e.echo = newEchoKey(e.random)
	e.janitor.e = e
	e.workers.init(e)
	e.uploads = newHeld[*upload](e, cfg.Bounds.Uploads, cfg.Bounds.PeerUploads, minUploadIdle)
	e.downloads.held = newHeld[*download](e, cfg.Bounds.Downloads, cfg.Bounds.PeerDownloads, 0)
	return e
}

// ServePacket reads datagrams from conn, which it closes, until ctx ends. Then it lets work in
// flight finish for [Config.Drain], ends it, waits for the functions of the user as
// [Endpoint.Close] does, and returns nil. Several sockets may be served at once, also with one
// local port (SO_REUSEPORT). If conn is bound to the wildcard address, answers leave from the
// address that was asked on Linux; elsewhere the system may choose another address of the host.
func (e *Endpoint) ServePacket(ctx context.Context, conn net.PacketConn) error {
	return e.serve(ctx, e.newSocket(ctx, conn))
}

// datagramServer is a server that refuses new requests once it drains.
type datagramServer interface {
	server
	Serve() error
	Drain()
	Addr() netip.AddrPort
}

// callbacksOf returns the origin of what s serves.
func callbacksOf(s server) *origin {
	switch s := s.(type) {
	case *socket:
		return &s.origin
	case *dtlsSocket:
		return &s.origin
	}
	return nil
}

// serve runs s until ctx ends and what is under way then has ended.
func (e *Endpoint) serve(ctx context.Context, s datagramServer) error {
	if err := e.enter(s); err != nil {
		return err
	}
	defer e.leaveServer(s)
	stop := context.AfterFunc(ctx, func() {
		s.Drain()
		e.drain()
		s.Close()
	})
	defer stop()
	err := s.Serve()
	switch {
	case err != nil:
		return fmt.Errorf("coap: serve %v: %w", s.Addr(), err)
	case ctx.Err() == nil && !e.isClosed():
		return fmt.Errorf("coap: serve %v: %w", s.Addr(), net.ErrClosed)
	}
	return nil
}

// drain waits until nothing is under way, at most for Config.Drain.
func (e *Endpoint) drain() { e.work.wait(e.cfg.Drain, e.closing) }

// enter registers s with Close. If the endpoint is closed already, it closes s.
func (e *Endpoint) enter(s server) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		s.Close()
		return ErrClosed
	}
	e.servers = append(e.servers, s)
	return nil
}

// leaveServer ends s and the associations whose link it is.
func (e *Endpoint) leaveServer(s server) {
	s.Close()
	e.mu.Lock()
	e.servers = slices.DeleteFunc(e.servers, func(other server) bool { return other == s })
	e.mu.Unlock()
	for _, a := range e.table.all(func(a *association) bool { return any(a.link) == any(s) }) {
		e.end(a)
	}
	if o := callbacksOf(s); o != nil {
		e.join(o, e.cfg.Drain)
	}
}

func (e *Endpoint) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Close ends everything at once: the contexts of handlers end, and so do requests, observations and
// transfers. It waits until no function of the user is being called any more, at most for
// [Config.Drain], after which it logs how many have not returned. After Close has returned, none is
// called, except those of requests that are made later, which fail with ErrClosed. If such a
// function calls Close, or waits for the caller of Close, then Close waits for all that time.
func (e *Endpoint) Close() error {
	deadline := time.Now().Add(e.cfg.Drain)
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	servers := slices.Clone(e.servers)
	e.mu.Unlock()
	for _, s := range servers {
		s.Close()
	}
	var all context.Context
	streams := e.streamsOf(all)
	for _, s := range streams {
		s.close()
	}
	limit := time.NewTimer(e.cfg.Drain)
	defer limit.Stop()
	for _, s := range servers {
		within(limit, s.Done())
	}
	for _, s := range streams {
		within(limit, s.read)
	}
	e.table.close()
	for _, a := range e.table.all(func(*association) bool { return true }) {
		e.end(a)
		a.link.hangup(a)
	}
	e.uploads.close()
	e.downloads.close()
	e.workers.close()
	e.join(&e.gate.all, time.Until(deadline))
	e.timers.close()
	return nil
}

// within waits for done until the limit has passed.
func within(limit *time.Timer, done <-chan struct{}) {
	select {
	case <-done:
	case <-limit.C:
		limit.Reset(0) // for the next one, too
	}
}
