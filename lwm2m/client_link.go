package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// link is an association of a client with its server. After one has failed, the client makes
// another one from a new port.
type link struct {
	client   *Client
	ctx      context.Context // for code of the program: ends with Run's or when the link is closed
	closed   context.Context // ends when the link is closed
	end      func()          // ends both
	coap     *coap.Endpoint
	addr     netip.AddrPort // of the server
	peer     coap.Peer
	version  Version // of the registration
	notifier *notifier
	lost     chan struct{} // closed when a connection has ended

	mu         sync.Mutex
	draining   bool
	serving    int           // requests that have no answer yet
	idle       chan struct{} // closed when draining, and serving is 0
	lastChange time.Time     // when a request that may have changed something was answered

	// Only stay and the functions that it calls use these.
	location  []string
	listed    string    // the object list that the server has
	announced announced // the settings that the server has
}

// lookPause is the minimum time between two evaluations of the changes that the program reports. It
// bounds the work for an object whose Read reports a change each time.
const lookPause = 10 * time.Millisecond

// stay makes an association, registers, and keeps the registration until it is lost or ctx ends. It
// reports whether the client was registered. running is the context for code of the program.
func (c *Client) stay(ctx, running context.Context) (was bool, err error) {
	l, err := c.dial(ctx, running)
	if err != nil {
		return false, err
	}
	defer l.close()
	var notifying sync.WaitGroup
	notifying.Go(func() { l.notifier.run(l.ctx) })
	defer notifying.Wait()
	defer l.end()
	defer func() {
		if why := leaves(ctx); why != nil && why.drains {
			l.drain(running)
		}
	}()
	if err := l.register(ctx); err != nil {
		return false, err
	}
	defer c.setRegistered(false)
	due := time.NewTimer(l.updateDue())
	defer due.Stop()
	updated := time.Now() // when the server last renewed the registration
	var pauses work.Backoff
	pause := time.NewTimer(0)
	defer pause.Stop()
	var kick <-chan struct{} // nil during a pause
	for {
		select {
		case <-ctx.Done():
			if leaves(ctx) == nil {
				l.deregister(ctx)
			}
			return true, ctx.Err()
		case <-pause.C:
			kick = c.kick
			continue
		case <-kick:
			kick = nil
			pause.Reset(lookPause)
			if !l.changed(ctx) {
				continue
			}
		case <-due.C:
		case <-l.lost:
			return true, fmt.Errorf("%w: the connection has ended", ErrUnreachable)
		}
		switch err := l.update(ctx); {
		case err == nil:
		case errors.Is(err, ErrNotFound):
			c.log.Info("the server does not know the registration", slog.Any("location", l.location))
			c.setRegistered(false)
			if err := l.register(ctx); err != nil {
				return true, err
			}
		case busy(err):
			wait := c.registerPause(&pauses, err)
			if time.Since(updated)+wait > l.lifetime() {
				return true, err
			}
			due.Reset(wait)
			continue
		case ctx.Err() == nil:
			return true, err
		}
		updated = time.Now()
		pauses = 0
		due.Reset(l.updateDue())
	}
}

// busy reports whether the server refused a request only for now.
func busy(err error) bool {
	answer, ok := errors.AsType[*ResponseError](err)
	return ok && (answer.Code == CodeUnavailable || answer.Code == CodeTooManyRequests)
}

// dial makes an association with the server. running is the context for code of the program.
func (c *Client) dial(ctx, running context.Context) (_ *link, err error) {
	l := &link{client: c, lost: make(chan struct{}), idle: make(chan struct{})}
	var cancel, shut context.CancelFunc
	l.ctx, cancel = context.WithCancel(running)
	l.closed, shut = context.WithCancel(context.WithoutCancel(ctx))
	l.end = func() { cancel(); shut() }
	l.notifier = newNotifier(c)
	l.coap = coap.New(coap.Config{
		Handler: coap.HandlerFunc(l.serveCOAP), Sinks: l.openSink, MaxBody: c.config.MaxMessage, Logger: c.config.Logger,
		OnClosed: func(coap.Peer) { close(l.lost) },
	})
	defer func() {
		if err != nil {
			l.end()
			l.coap.Close()
		}
	}()
	if l.addr, err = resolve(ctx, c.server); err != nil {
		return nil, err
	}
	d := dialer{
		psk: c.config.PSK, pskIdentity: c.config.PSKIdentity, certificate: c.config.Certificate, roots: c.config.RootCAs,
	}
	if listen := c.config.Listen; listen != nil {
		d.listen = func(ctx context.Context) (net.PacketConn, error) {
			return call(ctx, c.calls, scopeClient, "Listen", func() (net.PacketConn, error) { return listen(ctx) },
				func(conn net.PacketConn) { conn.Close() })
		}
	}
	if l.peer, err = d.dial(ctx, l.coap, c.server, l.addr); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link = l
	return l, nil
}

func (l *link) close() {
	l.client.mu.Lock()
	if l.client.link == l {
		l.client.link = nil
	}
	l.client.mu.Unlock()
	l.end()
	l.coap.Hangup(l.peer)
	l.coap.Close()
}

// resolve returns an address of the server, a random one if there are several.
func resolve(ctx context.Context, u serverURI) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(u.host); err == nil {
		return netip.AddrPortFrom(ip.Unmap(), u.port), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(ips) == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: %s has no address", ErrUnreachable, u.host)
	}
	return netip.AddrPortFrom(ips[time.Now().UnixNano()/1000%int64(len(ips))].Unmap(), u.port), nil
}

// do sends a request to the server and returns its answer, or an error if the answer has an error
// code.
func (l *link) do(ctx context.Context, msg *coap.Request) (*coap.Response, error) {
	resp, err := l.coap.Do(ctx, l.peer, msg)
	if err != nil {
		kind := ErrUnreachable
		switch {
		case ctx.Err() != nil:
			kind = ctx.Err()
		case errors.Is(err, coap.ErrTimeout):
			kind = ErrTimeout
		}
		return nil, fmt.Errorf("%w: %w", kind, err)
	}
	if err := responseError(resp, Path{}); err != nil {
		if age, ok := coap.Uint(resp.Options, coap.MaxAge); ok {
			err = &retryAfter{error: err, after: time.Duration(age) * time.Second}
		}
		return nil, err
	}
	return resp, nil
}
