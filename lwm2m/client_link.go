package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// link is an association of a client with its server. When it fails a new one is made, from a new port.
type link struct {
	client   *Client
	coap     *coap.Endpoint
	addr     netip.AddrPort // of the server
	peer     coap.Peer
	version  Version // as registered
	notifier *notifier
	lost     chan struct{} // closed when a connection has ended

	// Only stay, and those it calls, use these.
	location []string
	listed   string // the object list that the server knows
	lifetime int64  // s, that the server knows
	binding  string // that the server knows
}

// stay makes an association, registers, and keeps up the registration until it is lost or ctx ends. It reports whether
// there was one.
func (c *Client) stay(ctx context.Context) (was bool, err error) {
	l, err := c.dial(ctx)
	if err != nil {
		return false, err
	}
	defer l.close()
	notifying, stop := context.WithCancel(ctx)
	defer stop()
	go l.notifier.run(notifying)
	if err := l.register(ctx); err != nil {
		return false, err
	}
	defer c.setRegistered(false)
	due := time.NewTimer(l.updateDue())
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			// Only the end of the client is a farewell: a Runner that ended it will be back with a new version.
			if _, restart := errors.AsType[*runnerError](context.Cause(ctx)); !restart {
				l.deregister(ctx)
			}
			return true, ctx.Err()
		case <-c.kick:
			if !l.changed() {
				continue
			}
		case <-due.C:
		case <-l.lost:
			return true, fmt.Errorf("%w: the connection has ended", ErrUnreachable)
		}
		if err := l.update(ctx); errors.Is(err, ErrNotFound) {
			c.log.Info("the server does not know the registration", slog.Any("location", l.location))
			c.setRegistered(false)
			err = l.register(ctx)
			if err != nil {
				return true, err
			}
		} else if err != nil && ctx.Err() == nil {
			return true, err
		}
		due.Reset(l.updateDue())
	}
}

// dial makes an association with the server.
func (c *Client) dial(ctx context.Context) (*link, error) {
	l := &link{client: c, lost: make(chan struct{})}
	l.notifier = newNotifier(c)
	l.coap = coap.New(coap.Config{
		Handler: coap.HandlerFunc(l.serveCOAP), Sinks: l.openSink, MaxBody: c.config.MaxMessage, Logger: c.config.Logger,
		OnClosed: func(coap.Peer) { close(l.lost) },
	})
	var err error
	if l.addr, err = resolve(ctx, c.server); err != nil {
		return nil, err
	}
	d := dialer{
		psk: c.config.PSK, pskIdentity: c.config.PSKIdentity, certificate: c.config.Certificate, roots: c.config.RootCAs,
		listen: c.config.Listen,
	}
	l.peer, err = d.dial(ctx, l.coap, c.server, l.addr)
	if err != nil {
		l.coap.Close()
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
	l.coap.Hangup(l.peer)
	l.coap.Close()
}

// resolve returns an address of the server; with each call by chance another of several.
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

// do sends a request to the server and returns an answer that is a success.
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

// register registers. Observations of before are gone, which must be so before the server can make new ones.
func (l *link) register(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	l.version = c.version
	c.forced = false
	c.mu.Unlock()
	l.notifier.clear()
	l.listed, l.lifetime, l.binding = c.list(l.version), c.control.lifetime(), c.control.binding()
	queries := []string{"lwm2m=" + l.version.String(), "ep=" + c.config.Endpoint, l.lifetimeQuery()}
	queries = append(queries, l.bindingQueries()...)
	resp, err := l.do(ctx, &coap.Request{
		Code: coap.POST, Path: []string{"rd"}, Queries: queries,
		ContentFormat: coap.FormatOf(uint16(FormatLink)), Payload: []byte(l.listed),
	})
	if err != nil {
		return err
	}
	l.location = nil
	for _, o := range resp.Options {
		if o.ID == coap.LocationPath {
			l.location = append(l.location, string(o.Value))
		}
	}
	if len(l.location) == 0 {
		return fmt.Errorf("%w: the server gave no location", ErrRefused)
	}
	c.log.Info("registered", slog.String("lwm2m", l.version.String()))
	c.setRegistered(true)
	return nil
}

func (l *link) lifetimeQuery() string { return "lt=" + strconv.FormatInt(l.lifetime, 10) }

// bindingQueries says how the device can be reached, if it is not the default.
func (l *link) bindingQueries() []string {
	binding := l.binding
	queue := l.client.config.Queue || strings.Contains(binding, "Q")
	binding = strings.ReplaceAll(binding, "Q", "")
	if l.version.Minor == 0 && queue {
		return []string{"b=" + binding + "Q"}
	}
	var queries []string
	if binding != "U" {
		queries = append(queries, "b="+binding)
	}
	if queue {
		queries = append(queries, "Q")
	}
	return queries
}

// changed reports whether the server should be told something.
func (l *link) changed() bool {
	c := l.client
	c.mu.Lock()
	forced := c.forced
	c.mu.Unlock()
	return forced || c.control.lifetime() != l.lifetime || c.control.binding() != l.binding || c.list(l.version) != l.listed
}

// update sends an Update with what has changed.
func (l *link) update(ctx context.Context) error {
	c := l.client
	c.mu.Lock()
	c.forced = false
	c.mu.Unlock()
	msg := &coap.Request{Code: coap.POST, Path: l.location}
	if lt := c.control.lifetime(); lt != l.lifetime {
		l.lifetime = lt
		msg.Queries = append(msg.Queries, l.lifetimeQuery())
	}
	if b := c.control.binding(); b != l.binding {
		l.binding = b
		msg.Queries = append(msg.Queries, l.bindingQueries()...)
	}
	if list := c.list(l.version); list != l.listed {
		l.listed = list
		msg.ContentFormat, msg.Payload = coap.FormatOf(uint16(FormatLink)), []byte(list)
	}
	_, err := l.do(ctx, msg)
	return err
}

// updateDue returns how long from now the next Update should be: a MAX_TRANSMIT_WAIT before the lifetime ends, so that
// retransmissions fit in, but not before half of it.
func (l *link) updateDue() time.Duration {
	lt := time.Duration(l.lifetime) * time.Second
	return lt - min(lt/2, 93*time.Second)
}

// deregister says farewell, if the server is there to hear it.
func (l *link) deregister(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deregisterTimeout)
	defer cancel()
	if _, err := l.do(ctx, &coap.Request{Code: coap.DELETE, Path: l.location}); err != nil {
		l.client.log.Info("not de-registered", slog.Any("error", err))
	}
}

// list returns the object list as the server is told.
func (c *Client) list(v Version) string {
	var list ObjectList
	if v.Minor > 0 {
		list.Formats = []ContentFormat{FormatCBOR, FormatSenMLJSON, FormatSenMLCBOR, FormatTLV}
		if v.Minor > 1 {
			list.Formats = append(list.Formats, FormatLwM2MCBOR)
		}
	}
	for _, id := range c.ids {
		o := c.objects[id]
		list.Objects = append(list.Objects, ListedObject{ID: id, Version: objectVersion(o), Instances: o.Instances()})
	}
	return string(list.Append(nil))
}

// objectVersion returns the version of an object's definition, zero for 1.0.
func objectVersion(o Object) Version {
	text := o.Version()
	if text == "" {
		return Version{}
	}
	v, err := ParseVersion(text)
	if err != nil || v == (Version{Major: 1}) {
		return Version{}
	}
	return v
}
