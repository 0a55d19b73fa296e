package firmware

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

const (
	// packageURITime limits one call of ManagerConfig.PackageURI, and the calls of
	// Manager.protocols together.
	packageURITime = 10 * time.Second
	// maxPackageURICalls limits the calls at the same time, including abandoned ones. The manager
	// has many more workers, so updates that need no URI go on.
	maxPackageURICalls = 128
	// maxPackageURI is how long a Package URI may be, in bytes (LwM2M 1.0 to 1.2, resource 5/0/1).
	maxPackageURI = 255
)

// errNoURINow means that ManagerConfig.PackageURI failed; the manager asks it again later.
var errNoURINow = errors.New("firmware: PackageURI failed")

// askPackageURI asks ManagerConfig.PackageURI. It abandons a call that has not returned when ctx
// ends. The error matches errNoURINow, or is that of checkPackageURI.
func (m *Manager) askPackageURI(ctx context.Context, of *Update, p fsm.Protocol) (string, error) {
	u := clone(of)
	select {
	case m.uriCalls <- struct{}{}:
	default:
		return "", fmt.Errorf("%w: %d calls of it have not returned", errNoURINow, maxPackageURICalls)
	}
	type answer struct {
		uri string
		err error
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-m.uriCalls }()
		a := answer{err: fmt.Errorf("%w: it panicked", errNoURINow)}
		defer func() { answered <- a }()
		m.call("PackageURI", func() {
			uri, err := m.config.PackageURI(ctx, u, p)
			if err != nil {
				err = fmt.Errorf("%w: %w", errNoURINow, err)
			}
			a = answer{uri, err}
		})
	}()
	select {
	case a := <-answered:
		if a.err == nil && a.uri != "" {
			a.err = checkPackageURI(a.uri, p, of.Machine.Plan.Profile.PathOnly)
		}
		return a.uri, a.err
	case <-ctx.Done():
		return "", fmt.Errorf("%w: it has not returned within %s", errNoURINow, packageURITime)
	}
}

// checkPackageURI says why a URI cannot be given to a device. The error does not show the URI,
// which may have secrets.
func checkPackageURI(uri string, p fsm.Protocol, pathOnly bool) error {
	if len(uri) > maxPackageURI {
		return fmt.Errorf("the URI of PackageURI has %d bytes; a Package URI has at most %d", len(uri), maxPackageURI)
	}
	if !onlyURIBytes(uri) {
		return errors.New("the URI of PackageURI has characters that must be escaped")
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return errors.New("what PackageURI returned is no URI")
	case strings.Contains(uri, "#"):
		return errors.New("the URI of PackageURI has a fragment")
	case pathOnly && (u.Scheme != "" || u.Host != "" || !strings.HasPrefix(uri, "/")):
		return errors.New("PackageURI returned no path, which is all that the profile's devices take")
	case pathOnly:
		return nil
	case u.Scheme != p.String():
		return fmt.Errorf("the URI of PackageURI is not of scheme %s", p)
	case u.Hostname() == "":
		return errors.New("the URI of PackageURI has no host")
	case u.User != nil:
		return errors.New("the URI of PackageURI has user info")
	}
	return nil
}

// foreignURI returns the Package URI of another server; its text is empty if there is none.
func (m *Manager) foreignURI(ctx context.Context, u *Update, act fsm.Action) (uri packageURI) {
	if m.config.PackageURI == nil {
		return packageURI{}
	}
	ctx, cancel := context.WithTimeout(ctx, packageURITime)
	defer cancel()
	text, err := m.askPackageURI(ctx, u, act.Protocol)
	switch {
	case errors.Is(err, errNoURINow):
		return packageURI{err: blame{errNotSent, err}}
	case err != nil:
		return packageURI{err: blame{errNotServed, err}}
	case text != "":
		uri.text, uri.shown = text, "[secret]"
		if parsed, err := url.Parse(text); err == nil && parsed.Host != "" {
			uri.shown = parsed.Scheme + "://" + parsed.Host + "/[secret]"
		}
	}
	return uri
}

// protocols lists the protocols by which packages are served to the device of an update, by
// PackageURI or by the delivery, the preferred one first. If PackageURI fails for a protocol, the
// protocol is listed too, so that the journal says why no URI came.
func (m *Manager) protocols(ctx context.Context, u *Update) []fsm.Protocol {
	r, _ := m.srv.Registration(u.Endpoint)
	var own []fsm.Protocol
	if m.delivery != nil {
		own = m.delivery.protocols(r, m.srv.Handles)
	}
	if m.config.PackageURI == nil {
		return own
	}
	ctx, cancel := context.WithTimeout(ctx, packageURITime)
	defer cancel()
	var list []fsm.Protocol
	for _, p := range preferred {
		uri, err, mine := "", error(nil), slices.Contains(own, p)
		if !mine {
			if err = ctx.Err(); err == nil {
				uri, err = m.askPackageURI(ctx, u, p)
			}
		}
		if mine || uri != "" || err != nil {
			list = append(list, p)
		}
	}
	return list
}
