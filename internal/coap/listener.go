package coap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/otago-iot/otago/internal/work"
)

// ServeListener accepts connections from l, which it closes, until ctx ends. Then it lets work in
// progress finish for [Config.Drain], sends the peers a Release, waits for the user's functions as
// [Endpoint.Close] does, and returns nil. Connections with the methods of *[tls.Conn] are TLS,
// others TCP without security. A connection costs a goroutine. Above [Bounds.Streams], the oldest
// connection that has made no request is closed, or else the new one.
func (e *Endpoint) ServeListener(ctx context.Context, l net.Listener) (failed error) {
	defer l.Close()
	if e.isClosed() {
		return ErrClosed
	}
	streams, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var from origin
	defer func() { e.join(&from, e.config.Drain) }()
	defer e.listens(&doorway{l.Addr(), &from})()
	closing := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closing)
		l.Close()
		mine := e.streamsOf(streams)
		for _, s := range mine {
			s.draining.Store(true)
		}
		e.drain()
		release(mine)
	})
	err := e.accept(ctx, streams, &from, l)
	if stop() {
		if !e.isClosed() {
			failed = fmt.Errorf("coap: serve %v: %w", l.Addr(), err)
		}
	} else {
		<-closing
	}
	for _, s := range e.streamsOf(streams) {
		s.close()
	}
	limit := time.NewTimer(e.config.Drain)
	defer limit.Stop()
	for _, s := range e.streamsOf(streams) {
		within(limit, s.read)
	}
	return failed
}

// accept starts a goroutine for each connection.
func (e *Endpoint) accept(ctx, streams context.Context, from *origin, l net.Listener) error {
	for pauses := work.Backoff(0); ; {
		conn, err := l.Accept()
		switch {
		case err == nil:
			pauses = 0
		case errors.Is(err, net.ErrClosed) || ctx.Err() != nil:
			return err
		default:
			// Too many open files, for instance: the error may pass.
			pause := pauses.Next(5*time.Millisecond, time.Second)
			e.log.Warn("coap: cannot accept a connection", "error", err, "pause", pause)
			work.Sleep(ctx, pause)
			continue
		}
		s := e.newStream(streams, conn)
		s.serving, s.origin = streams, from
		if err := e.enterStream(s); err != nil {
			s.close()
			e.log.Debug("coap: connection refused", "address", conn.RemoteAddr(), "error", err)
			continue
		}
		go func() {
			if err := s.greet(ctx); err != nil {
				e.log.Info("coap: no connection", "address", conn.RemoteAddr(), "error", err)
				close(s.read)
				e.leaveStream(s)
				return
			}
			s.serve()
		}()
	}
}

// DialStream returns the peer at the other end of conn, which the endpoint owns from then on. A
// connection with the methods of *[tls.Conn] is TLS; DialStream completes its handshake, if
// necessary, before ctx ends.
func (e *Endpoint) DialStream(ctx context.Context, conn net.Conn) (Peer, error) {
	s := e.newStream(context.WithoutCancel(ctx), conn)
	if err := e.enterStream(s); err != nil {
		s.close()
		return Peer{}, err
	}
	if err := s.greet(ctx); err != nil {
		close(s.read)
		e.leaveStream(s)
		return Peer{}, err
	}
	go s.serve()
	return s.a.peer, nil
}

// muteTime is how long a connection without a request keeps its place when there are too many.
const muteTime = time.Second

// enterStream finds a place for a connection. If there is none, it closes the oldest connection
// without a request: devices make one at once.
func (e *Endpoint) enterStream(s *stream) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrClosed
	}
	group := s.group()
	if !e.connections.take(group, 1) {
		oldest := e.mute[group].Front()
		if oldest == nil || e.timers.now()-oldest.Value.(*stream).began < muteTime {
			return ErrBusy
		}
		mute := oldest.Value.(*stream)
		e.forgetStream(mute)
		go mute.close() // with TLS, close may wait for the peer
		e.connections.take(group, 1)
	}
	if e.streams == nil {
		e.streams = make(map[*stream]struct{})
	}
	e.streams[s] = struct{}{}
	e.keepCrews()
	if s.serving != nil {
		s.mute = e.mute[group].PushBack(s)
	}
	return nil
}

func (e *Endpoint) leaveStream(s *stream) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetStream(s)
}

// forgetStream frees the place of a connection. e.mu is held.
func (e *Endpoint) forgetStream(s *stream) {
	if _, ok := e.streams[s]; ok {
		delete(e.streams, s)
		e.keepCrews()
		e.connections.give(s.group(), 1)
		e.spoken(s)
	}
}

// spoken records that the peer has made a request. e.mu is held.
func (e *Endpoint) spoken(s *stream) {
	if s.mute != nil {
		e.mute[s.group()].Remove(s.mute)
		s.mute = nil
	}
}

// streamsOf returns the streams of one call of ServeListener; all streams if serving is nil.
func (e *Endpoint) streamsOf(serving context.Context) []*stream {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []*stream
	for s := range e.streams {
		if serving == nil || s.serving == serving {
			list = append(list, s)
		}
	}
	return list
}
