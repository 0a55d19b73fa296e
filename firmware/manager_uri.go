package firmware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// errNotServed says that no Package URI can be made for a device and a protocol.
var errNotServed = errors.New("firmware: package cannot be served")

// packageURI is a Package URI about to be written, or why there is none.
type packageURI struct {
	text  string
	shown string // the same without its secret, for the journal
	err   error
}

// withURI adds to the journal which Package URI is written.
func withURI(entries []fsm.Entry, uri packageURI) []fsm.Entry {
	switch {
	case uri.err != nil:
		return append(entries, fsm.Entry{Event: "uri", Detail: uri.err.Error()})
	case uri.text != "":
		return append(entries, fsm.Entry{Event: "uri", Detail: uri.shown})
	}
	return entries
}

// maxTokens bounds the downloads that one update remembers: the device may still use an earlier one.
const maxTokens = 8

// newURI makes the Package URI that an action asks for, allows downloads by it, and notes its hash in rec, which is durable
// before the device sees the URI.
func (m *Manager) newURI(ctx context.Context, rec *Update, act fsm.Action) packageURI {
	g := grant{update: rec.ID, endpoint: rec.Endpoint, image: rec.Image}
	uri, hash, err := m.grantURI(ctx, g, act)
	if err != nil {
		uri.err = fmt.Errorf("%w: %w", errNotServed, err)
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			uri.err = fmt.Errorf("%w: %w", errImage, err)
		}
		return uri
	}
	if !slices.Contains(rec.Tokens, hash) {
		kept := rec.Tokens[max(0, len(rec.Tokens)-maxTokens+1):]
		rec.Tokens = append(slices.Clone(kept), hash)
	}
	return uri
}

func (m *Manager) grantURI(ctx context.Context, g grant, act fsm.Action) (uri packageURI, hash string, err error) {
	if act.PathOnly {
		var img Image
		err := m.insist(ctx, g.update, func(ctx context.Context) (err error) {
			img, err = m.db.Image(ctx, g.image)
			return err
		})
		if err != nil {
			return packageURI{}, "", err
		}
		uri.text, hash, err = m.images.publish(g, img)
		uri.shown = uri.text
		return uri, hash, err
	}
	registration, _ := m.srv.Registration(g.endpoint)
	base := m.base(registration, act.Protocol)
	if base == "" {
		return packageURI{}, "", fmt.Errorf("not by %s to this device", act.Protocol)
	}
	token, hash := newToken()
	if uri.text, err = tokenURI(base, token); err != nil {
		return packageURI{}, "", err
	}
	uri.shown = strings.TrimSuffix(uri.text, token) + "[secret]"
	g.hash = hash
	return uri, hash, m.images.allow(g)
}

// allowAgain lets the URIs that an update gave out before a restart be used.
func (m *Manager) allowAgain(u Update) {
	for _, hash := range u.Tokens {
		if err := m.images.allow(grant{hash: hash, update: u.ID, endpoint: u.Endpoint, image: u.Image}); err != nil {
			m.log.Warn("a package URI of before the restart leads nowhere now", "update", u.ID, "error", err)
		}
	}
}

// served notes that a device has been sent the package up to some byte.
func (m *Manager) served(update string, done int64) {
	if d := m.drive(update); d != nil {
		d.progress(done)
	}
}

// serveCoAP hands packages to devices on the server's own transports. A grant is checked against the endpoint of the
// association that the request came on, where it came on one: a device may also download on a socket of its own.
func (m *Manager) serveCoAP() {
	m.srv.HandleFunc("/", func(ctx context.Context, d lwm2m.Download) (*lwm2m.Resource, error) {
		s, err := m.images.find(ctx, d.Path, d.Endpoint, d.Transport.String())
		switch {
		case errors.Is(err, errNoGrant):
			return nil, lwm2m.ErrNotFound
		case err != nil:
			return nil, lwm2m.ErrUnavailable
		}
		return &lwm2m.Resource{Body: s, Size: s.size, ETag: s.etag, Progress: s.reached}, nil
	})
}

// base returns what a Package URI starts with, or "" if packages are not served to that device by that protocol.
func (m *Manager) base(r lwm2m.Registration, p fsm.Protocol) string {
	if m.cfg.BaseURLs != nil {
		var base string
		m.call("BaseURLs", func() { base = m.cfg.BaseURLs(r, p) })
		return base
	}
	if u, err := url.Parse(m.cfg.BaseURL); err == nil && u.Scheme == p.String() {
		return m.cfg.BaseURL
	}
	if r.Transport.String() == p.String() && r.Local.IsValid() {
		return p.String() + "://" + r.Local.String() + m.images.cfg.Prefix
	}
	return ""
}

// schemes lists the protocols that packages are served by, the preferred one first: what costs the device least of its
// radio time for a megabyte comes first.
func (m *Manager) schemes(r lwm2m.Registration) []fsm.Protocol {
	var list []fsm.Protocol
	for _, p := range preferred {
		base := m.base(r, p)
		if base == "" {
			continue
		}
		// A token of the length that all have shows whether one will do.
		if _, err := tokenURI(base, strings.Repeat("x", tokenChars)); err != nil {
			m.log.Error("packages are not served by a protocol, because of its base URL", "protocol", p, "error", err)
			continue
		}
		list = append(list, p)
	}
	return list
}

var preferred = []fsm.Protocol{
	fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAPSTCP, fsm.ProtocolCoAPTCP, fsm.ProtocolCoAPS, fsm.ProtocolCoAP,
}
