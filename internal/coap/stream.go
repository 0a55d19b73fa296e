package coap

import (
	"bufio"
	"container/list"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/internal/udp"
)

// Time limits for a peer on a stream.
const (
	// greetTimeout limits a TLS handshake, and then the wait for the first message, which must be a
	// CSM.
	greetTimeout = 30 * time.Second
	// frameTimeout limits the time from the first byte of a frame to its last.
	frameTimeout = 30 * time.Second
	// writeTimeout limits the time for writing writeChunk bytes.
	writeTimeout = 30 * time.Second
	writeChunk   = 4 << 10
	// settleTimeout limits the wait for the last bytes to be sent.
	settleTimeout = time.Second
)

// maxUnwritten limits the bytes that wait to be written to one peer; minUnwritten replaces it when
// too many wait in total.
const (
	maxUnwritten = 256 << 10
	minUnwritten = 4 << 10
)

var (
	errSlowPeer = errors.New("coap: peer does not read")
	errReleased = errors.New("coap: peer releases the connection")
	errAborted  = errors.New("coap: peer aborts the connection")
)

// stream is a connection over TCP or TLS (RFC 8323) and the link of its one association. Its only
// permanent goroutine reads.
type stream struct {
	e     *Endpoint
	conn  net.Conn
	a     *association
	ctx   context.Context
	stop  context.CancelFunc
	local netip.AddrPort
	// serving identifies the listener; nil if dialled.
	serving context.Context
	origin  *origin // of the listener
	began   time.Duration
	mute    *list.Element // in Endpoint.mute, which Endpoint.mu guards
	spoke   bool          // set with the first request; only the reader uses it

	draining  atomic.Bool
	closeOnce sync.Once
	read      chan struct{} // closed when the reader has ended

	mu        sync.Mutex
	backlog   []byte        // waits to be written
	spare     []byte        // buffer for the next backlog
	unwritten int           // bytes of the backlog and of the current write
	flushed   chan struct{} // closed when nothing waits; nil if nothing does
	failed    error

	peer atomic.Pointer[capabilities] // nil until it has sent a CSM
}

func (e *Endpoint) newStream(ctx context.Context, conn net.Conn) *stream {
	s := &stream{e: e, conn: conn, read: make(chan struct{}), began: e.timers.now()}
	s.local, _ = udp.AddrPort(conn.LocalAddr())
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

func (s *stream) group() group {
	if _, ok := s.conn.(secureConn); ok {
		return overTLS
	}
	return overTCP
}

// serve reads until the connection ends, and then ends the association.
func (s *stream) serve() {
	defer close(s.read)
	err := s.readAll()
	if refused, ok := errors.AsType[*net.OpError](err); ok && refused.Op == "remote error" && s.peer.Load() == nil {
		s.handshakeFailed(s.a.peer.Addr, err) // clients refuse a certificate after our side of the handshake
	}
	if errors.Is(err, errReleased) {
		s.finish()
	}
	s.close()
	s.e.end(s.a)
	s.e.leaveStream(s)
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, errReleased) && !errors.Is(err, errAborted) {
		s.e.log.Info("coap: connection ended", "address", s.a.peer.Addr, "error", err)
	}
}

// finish answers the requests that the peer sent before its Release (RFC 8323, section 5.5).
func (s *stream) finish() {
	s.draining.Store(true)
	limit := time.NewTimer(s.e.config.Drain)
	defer limit.Stop()
	select {
	case <-s.a.served():
		settle(s)
	case <-limit.C:
	case <-s.ctx.Done():
	}
}

func (s *stream) readAll() error {
	r := bufio.NewReaderSize(s.conn, maxDatagram)
	s.conn.SetReadDeadline(time.Now().Add(greetTimeout))
	for {
		// Between frames a peer may be silent for ever, but not within a frame.
		if _, err := r.Peek(1); err != nil {
			return err
		}
		timed := s.peer.Load() != nil // before the CSM, greetTimeout applies
		if timed {
			s.conn.SetReadDeadline(time.Now().Add(frameTimeout))
		}
		p, err := readFrame(r)
		if timed {
			s.conn.SetReadDeadline(time.Time{})
		}
		if err != nil {
			if errors.Is(err, errFormat) || errors.Is(err, ErrTooLarge) {
				if s.a != nil {
					s.a.traceMalformed(nil, err)
				}
				s.abort(err.Error(), 0)
			}
			return err
		}
		kept, err := s.take(p)
		if !kept {
			p.free()
		}
		if err != nil {
			return err
		}
	}
}

// take handles a frame, and reports whether it keeps the packet.
func (s *stream) take(p *packet) (kept bool, err error) {
	m := &p.msg
	switch {
	case m.code == Empty:
		return false, nil // keeps the connection alive
	case class(m.code) == signalClass:
		s.a.traceIn(TraceMessage, m, p.n)
		return false, s.signal(m)
	case s.peer.Load() == nil:
		return false, s.tooEarly()
	case !s.spoke && isRequest(m.code):
		s.spoke = true
		s.e.mu.Lock()
		s.e.spoken(s)
		s.e.mu.Unlock()
	}
	return s.e.receive(s.a, p), nil
}

// write queues a frame, and never waits for the peer.
func (s *stream) write(_ *association, record []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	limit := maxUnwritten
	if s.e.unwritten.Add(int64(len(record))) > s.e.config.Bounds.StreamBytes {
		limit = minUnwritten
	}
	if s.unwritten > 0 && s.unwritten+len(record) > limit {
		s.e.unwritten.Add(-int64(len(record)))
		s.failed = errSlowPeer
		go s.close()
		return s.failed
	}
	s.unwritten += len(record)
	s.backlog = append(s.backlog, record...)
	if t := s.e.tracer.Load(); t != nil && s.a != nil {
		s.a.traceOut(*t, TraceMessage, record, nil)
	}
	if s.flushed == nil {
		s.flushed = make(chan struct{})
		go s.flush()
	}
	return nil
}

// wrote accounts for n bytes that no longer wait. s.mu is held.
func (s *stream) wrote(n int) {
	s.unwritten -= n
	s.e.unwritten.Add(-int64(n))
}

// flush writes until nothing waits.
func (s *stream) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.backlog) > 0 && s.failed == nil {
		out := s.backlog
		s.backlog = s.spare[:0]
		s.mu.Unlock()
		err := s.writeAll(out)
		s.mu.Lock()
		s.wrote(len(out))
		s.spare = out
		if err != nil {
			s.failed = err
			go s.close()
		}
	}
	s.wrote(s.unwritten)
	close(s.flushed)
	s.flushed = nil
	s.backlog, s.spare = nil, nil // an idle connection holds no buffer
}

var errGate = errors.New("coap: the endpoint may not send")

// writeAll writes out. It tolerates a slow peer as long as the peer reads.
func (s *stream) writeAll(out []byte) error {
	for chunk := range slices.Chunk(out, writeChunk) {
		if gate := s.e.config.Gate; gate != nil && !gate() {
			return errGate
		}
		s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := s.conn.Write(chunk); err != nil {
			return err
		}
	}
	return nil
}

// settle waits, for at most settleTimeout in all, until the streams have sent all bytes.
func settle(streams ...*stream) {
	limit, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	for _, s := range streams {
		s.mu.Lock()
		flushed := s.flushed
		s.mu.Unlock()
		if flushed == nil {
			continue
		}
		select {
		case <-flushed:
		case <-s.ctx.Done():
		case <-limit.Done():
			return
		}
	}
}

func (s *stream) close() {
	s.closeOnce.Do(func() {
		s.stop()
		s.mu.Lock()
		if s.failed == nil {
			s.failed = net.ErrClosed
		}
		s.mu.Unlock()
		s.conn.Close()
	})
}

func (s *stream) context() context.Context { return s.ctx }

func (s *stream) accepting() bool { return !s.draining.Load() }

func (s *stream) localAddr(*association) netip.AddrPort { return s.local }

func (s *stream) hangup(*association) { s.close() }
