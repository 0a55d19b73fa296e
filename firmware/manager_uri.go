package firmware

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// errNotServed says that no Package URI can be made for a device and a protocol.
var errNotServed = errors.New("firmware: package cannot be served")

// A blame is an error of a kind that the state machine tells apart (errNotServed, errImage,
// errNotSent). Its text, for the journal, says only what went wrong.
type blame struct{ kind, err error }

func (b blame) Error() string   { return plainError(b.err) }
func (b blame) Unwrap() []error { return []error{b.kind, b.err} }

// plainError is an error's text for the journal, without the name of this package.
func plainError(err error) string { return strings.TrimPrefix(err.Error(), "firmware: ") }

// packageURI is a Package URI about to be written, or why there is none.
type packageURI struct {
	text  string
	shown string // the same without its secret, for the journal
	err   error
	// here is how many bytes of an image from elsewhere must be on this machine first: one byte for
	// a download by HTTP, all for one by CoAP or by an unknown protocol.
	here int64
}

// withURI adds the Package URI to the journal entry that reports its write. If there is none, the
// entry that ends the action says why.
func withURI(entries []fsm.Entry, uri packageURI) []fsm.Entry {
	if uri.text != "" {
		return append(entries, fsm.Entry{Event: EventPackageURI, Detail: uri.shown})
	}
	return entries
}

// maxTokens limits the downloads that one update remembers. There are several because the device
// may still use an earlier one.
const maxTokens = 8

// newURI makes the Package URI that an action asks for, by ManagerConfig.PackageURI or the
// delivery. Then it allows downloads by it, and puts its hash into rec, which is durable before the
// device sees the URI.
func (m *Manager) newURI(ctx context.Context, rec *Update, act fsm.Action) packageURI {
	if uri := m.foreignURI(ctx, rec, act); uri.text != "" || uri.err != nil {
		return uri
	}
	g := grant{update: rec.ID, endpoint: rec.Endpoint, image: rec.Image, follower: m}
	uri, hash, err := m.grantURI(ctx, g, act)
	if err != nil {
		uri.err = blame{errNotServed, err}
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
			uri.err = blame{errImage, err}
		}
		return uri
	}
	uri.here = math.MaxInt64
	if byHTTP := act.Protocol == fsm.ProtocolHTTP || act.Protocol == fsm.ProtocolHTTPS; byHTTP && !act.PathOnly {
		uri.here = 1
	}
	if !slices.Contains(rec.Tokens, hash) {
		kept := rec.Tokens[max(0, len(rec.Tokens)-maxTokens+1):]
		rec.Tokens = append(slices.Clone(kept), hash)
	}
	return uri
}

func (m *Manager) grantURI(ctx context.Context, g grant, act fsm.Action) (uri packageURI, hash string, err error) {
	if m.delivery == nil {
		return packageURI{}, "", errors.New("this server has no Delivery")
	}
	if !act.PathOnly {
		registration, _ := m.srv.Registration(g.endpoint)
		uri.text, uri.shown, hash, err = m.delivery.issue(g, registration, act.Protocol)
		return uri, hash, err
	}
	var img Image
	err = m.untilStored(ctx, g.update, func(ctx context.Context) (err error) {
		img, err = m.db.Image(ctx, g.image)
		return err
	})
	if err != nil {
		return packageURI{}, "", err
	}
	uri.text, hash, err = m.delivery.publish(g, img)
	uri.shown = uri.text
	return uri, hash, err
}

// allowAgain allows the URIs that an update gave out before a restart.
func (m *Manager) allowAgain(u *Update) {
	if m.delivery == nil {
		return
	}
	for _, hash := range u.Tokens {
		g := grant{hash: hash, update: u.ID, endpoint: u.Endpoint, image: u.Image, follower: m}
		if err := m.delivery.allow(g); err != nil {
			m.log.Warn("a package URI of before the restart leads nowhere now", "update", u.ID, "error", err)
		}
	}
}

// revoke ends the downloads of an update.
func (m *Manager) revoke(update string) {
	if m.delivery != nil {
		m.delivery.revoke(update)
	}
}
