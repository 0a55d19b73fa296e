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

	"github.com/otago-iot/otago/internal/udp"
)

// Endpoint sends and answers CoAP requests on any number of sockets.
type Endpoint struct {
	config    Config
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
	underway    underway // exchanges of ours, and requests in service
	lastID      atomic.Uint64
	tracer      atomic.Pointer[Tracer] // nil: nothing is traced

	closing chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	servers []server
	doors   []*doorway // of ServeListener
	streams map[*stream]struct{}
	mute    [groups]list.List // of *stream without a request so far, the oldest first
}

// server is a socket with its reader. Close ends it at once; Done is closed when it has ended.
type server interface {
	Close()
	Done() <-chan struct{}
}

// New returns an endpoint. It starts nothing.
func New(config Config) *Endpoint {
	config = config.withDefaults()
	e := &Endpoint{
		config: config,
		szx:    szxOf(config.BlockSize),
		log:    config.Logger,
		seed:   maphash.MakeSeed(),
		random: newRandom(config.Rand, config.Transmission.Jitter),
		timers: newTimers(),
		table:  newTable(config.Bounds.Peers),

		uploadBytes: newShares(config.Bounds.UploadBytes, int(groups)),
		observers:   newShares(int64(config.Bounds.Observers), int(groups)),
		connections: newShares(int64(config.Bounds.Streams), 2),
		closing:     make(chan struct{}),
	}
	// DTLS has its own table, which a flood of forged UDP datagrams cannot fill.
	entries, size := config.Bounds.DedupEntries, config.Bounds.DedupBytes
	e.dedup, e.secure = newDedup(entries-entries/4, size-size/4), newDedup(entries/4, size/4)
	e.pool.spare.Do = e.pool.work
	e.pool.workers = newShares(int64(config.Bounds.Workers), int(groups))
	e.pool.waiting = newShares(int64(config.Bounds.Queue), int(groups))
	e.echo = newEchoKey(e.random)
	e.janitor.e = e
	e.workers.init(e)
	e.uploads = newHeld[*upload](e, config.Bounds.Uploads, config.Bounds.PeerUploads, minUploadIdle)
	e.downloads.held = newHeld[*download](e, config.Bounds.Downloads, config.Bounds.PeerDownloads, 0)
	return e
}

// ServePacket reads datagrams from conn, which it closes, until ctx ends. Then it lets work in
// progress finish for [Config.Drain], waits for the user's functions as [Endpoint.Close] does, and
// returns nil. An endpoint may serve several sockets, also on the same local port (SO_REUSEPORT).
// If conn is bound to the wildcard address, answers on Linux leave from the address that the
// request was sent to; elsewhere the system may choose another address of the host.
func (e *Endpoint) ServePacket(ctx context.Context, conn net.PacketConn) error {
	e.enlarge(conn)
	return e.serve(ctx, e.newSocket(ctx, conn))
}

// enoughBuffer is the size of a receive buffer that holds a datagram of each of 10,000 devices,
// which may all send at once.
const enoughBuffer = 4 << 20

// enlarge makes the buffers of a socket large enough for many peers that send at once.
func (e *Endpoint) enlarge(conn net.PacketConn) {
	wanted := min(e.config.SocketBuffer, enoughBuffer)
	if got := udp.Enlarge(conn, e.config.SocketBuffer); got < wanted {
		e.log.Warn("coap: the receive buffer is small; datagrams are lost when many devices send at once",
			"address", conn.LocalAddr(), "bytes", got, "wanted", wanted, "sysctl", "net.core.rmem_max")
	}
}

// datagramServer is a server that refuses new requests once it drains.
type datagramServer interface {
	server
	Serve() error
	Drain()
	Addr() netip.AddrPort
}

// callbacksOf returns the origin of the associations of s.
func callbacksOf(s server) *origin {
	switch s := s.(type) {
	case *socket:
		return &s.origin
	case *dtlsSocket:
		return &s.origin
	}
	return nil
}

// serve runs s until ctx has ended and work in progress has finished.
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

// drain waits until nothing is in progress, at most for Config.Drain.
func (e *Endpoint) drain() { e.underway.wait(e.config.Drain, e.closing) }

// enter registers s, so that Close ends it. If the endpoint is closed already, enter closes s.
func (e *Endpoint) enter(s server) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		s.Close()
		return ErrClosed
	}
	e.servers = append(e.servers, s)
	e.keepCrews()
	return nil
}

// keepCrews keeps goroutines while there are sockets or connections. e.mu is held.
func (e *Endpoint) keepCrews() {
	keep := !e.closed && len(e.servers)+len(e.streams) > 0
	e.pool.spare.Keep(keep)
	e.workers.spare.Keep(keep)
}

// leaveServer ends s and its associations.
func (e *Endpoint) leaveServer(s server) {
	s.Close()
	e.mu.Lock()
	e.servers = slices.DeleteFunc(e.servers, func(other server) bool { return other == s })
	e.keepCrews()
	e.mu.Unlock()
	for _, a := range e.table.all(func(a *association) bool { return any(a.link) == any(s) }) {
		e.end(a)
	}
	if o := callbacksOf(s); o != nil {
		e.join(o, e.config.Drain)
	}
}

func (e *Endpoint) isClosed() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// Close ends everything at once: handlers' contexts, requests, observations and transfers. It waits
// until none of the user's functions runs, at most for [Config.Drain], and then logs how many have
// not returned. After Close has returned, no function is called, except those of later requests,
// which fail with ErrClosed. If a function calls Close, or waits for the caller of Close, then
// Close waits for the whole time.
func (e *Endpoint) Close() error {
	deadline := time.Now().Add(e.config.Drain)
	e.mu.Lock()
	if !e.closed {
		e.closed = true
		close(e.closing)
	}
	e.keepCrews()
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
	limit := time.NewTimer(e.config.Drain)
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

// within waits for done, but not beyond limit.
func within(limit *time.Timer, done <-chan struct{}) {
	select {
	case <-done:
	case <-limit.C:
		limit.Reset(0) // for later calls, too
	}
}

// underway counts exchanges and requests in progress, and wakes those that wait until there are
// none.
type underway struct {
	n       atomic.Int64
	waiting atomic.Int32
	mu      sync.Mutex
	none    chan struct{} // closed, and replaced, when nothing is in progress
}

func (u *underway) begin() { u.n.Add(1) }

func (u *underway) end() {
	if u.n.Add(-1) > 0 || u.waiting.Load() == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.none != nil {
		close(u.none)
		u.none = nil
	}
}

// wait returns when nothing is in progress, after limit, or once stop is closed.
func (u *underway) wait(limit time.Duration, stop <-chan struct{}) {
	u.waiting.Add(1)
	defer u.waiting.Add(-1)
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		none := u.next() // before the check, else its closing could be missed
		if u.n.Load() == 0 {
			return
		}
		select {
		case <-none:
		case <-timer.C:
			return
		case <-stop:
			return
		}
	}
}

func (u *underway) next() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.none == nil {
		u.none = make(chan struct{})
	}
	return u.none
}
