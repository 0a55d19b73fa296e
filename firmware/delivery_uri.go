package firmware

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/lwm2m"
)

const (
	tokenBytes = 16 // 128 random bits
	tokenChars = 22 // of them in base64url, without padding
	// publicForms is the number of forms of public paths; the last one is unique.
	publicForms = 3
	// maxURI bounds the bytes of a Package URI that a Delivery makes: some devices store no more.
	maxURI = 127
)

// newToken returns a new token, and its hash for a grant.
func newToken() (token, hash string) {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	token = base64.RawURLEncoding.EncodeToString(b[:])
	return token, hashOf(token)
}

func hashOf(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:])
}

// isToken reports whether a path's last segment may be a token.
func isToken(s string) bool {
	return len(s) == tokenChars && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// tokenURI appends a token to the base of Package URIs: an absolute URI, or a path that begins with
// a slash.
func tokenURI(base, token string) (string, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", errors.New("firmware: base of package URIs is no URI") // err would show all of it
	case u.Scheme == "" && !strings.HasPrefix(base, "/"), u.Scheme != "" && u.Hostname() == "":
		return "", fmt.Errorf("firmware: base %q of package URIs is neither absolute nor a path", u.Redacted())
	case u.User != nil || strings.ContainsAny(base, "?#"):
		return "", errors.New("firmware: base of package URIs has user info, a query or a fragment")
	case !onlyURIBytes(base):
		return "", errors.New("firmware: base of package URIs has characters that must be escaped")
	}
	uri := strings.TrimSuffix(base, "/") + "/" + token
	if len(uri) > maxURI {
		return "", fmt.Errorf("firmware: package URI has %d bytes, more than the %d that devices keep", len(uri), maxURI)
	}
	return uri, nil
}

// onlyURIBytes reports whether s has only bytes that a URI may have (RFC 3986, section 2).
func onlyURIBytes(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return false
		}
	}
	return true
}

// publicPath returns the n-th form of an image's public path, and its hash for a grant. Images with
// different names may have the same version, so each form is more specific than the one before.
func (d *Delivery) publicPath(img Image, n int) (path, hash string) {
	name := img.Version
	switch n {
	case 1:
		name = img.Name + "-" + img.Version
	case 2:
		name = img.ID
	}
	path = d.config.PublicPrefix + plain(name) + ".bin"
	if len(path) > maxURI && n < 2 {
		return d.publicPath(img, 2)
	}
	return path, hashOf(path)
}

// plain replaces the characters that need an escape in a path: some clients escape nothing.
func plain(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '.', c == '-', c == '_':
			return c
		}
		return '_'
	}, name)
}

// issue makes a secret Package URI for a device and grants it. shown is the URI with its secret
// replaced.
func (d *Delivery) issue(g grant, r lwm2m.Registration, p fsm.Protocol) (uri, shown, hash string, err error) {
	base := d.base(r, p)
	if base == "" {
		return "", "", "", fmt.Errorf("not by %s to this device", p)
	}
	token, hash := newToken()
	if uri, err = tokenURI(base, token); err != nil {
		return "", "", "", err
	}
	g.hash = hash
	return uri, strings.TrimSuffix(uri, token) + "[secret]", hash, d.allow(g)
}

// publish grants a public path to an image. It returns the path, and its hash to grant it again.
func (d *Delivery) publish(g grant, img Image) (path, hash string, err error) {
	first := 0
	if !d.table.isReady() {
		first = publicForms - 1 // the others may be those of updates that are not loaded yet
	}
	for n := first; n < publicForms; n++ {
		path, g.hash = d.publicPath(img, n)
		if err = d.allow(g); !errors.Is(err, errPathTaken) {
			return path, g.hash, err
		}
	}
	return "", "", err
}

// base returns the start of a Package URI, or "" if the device gets no packages by that protocol.
func (d *Delivery) base(r lwm2m.Registration, p fsm.Protocol) (base string) {
	if d.config.BaseURLs != nil {
		work.GuardFunc(d.log, "BaseURLs", func() { base = d.config.BaseURLs(r, p) })
		return base
	}
	if scheme, _, _ := strings.Cut(d.config.BaseURL, ":"); strings.EqualFold(scheme, p.String()) {
		return d.config.BaseURL
	}
	if r.Transport.String() == p.String() && r.Local.IsValid() {
		return p.String() + "://" + r.Local.String() + d.config.Prefix
	}
	return ""
}

// protocols lists the protocols by which a device can get packages. handles reports whether the
// device's server answers GET of a path.
func (d *Delivery) protocols(r lwm2m.Registration, handles func(path string) bool) (list []fsm.Protocol) {
	for _, p := range preferred {
		base := d.base(r, p)
		if base == "" {
			continue
		}
		// All tokens have the same length, so any of them shows whether the base works.
		if _, err := tokenURI(base, strings.Repeat("x", tokenChars)); err != nil {
			d.log.Error("packages are not served by a protocol, because of its base URL", "protocol", p, "error", err)
			continue
		}
		if d.atServer(p) && !handles(d.config.Prefix+strings.Repeat("x", tokenChars)) {
			d.notMounted.Do(func() {
				level := slog.LevelInfo // a program may want downloads by HTTP only
				if d.config.BaseURL == "" {
					level = slog.LevelWarn
				}
				d.log.Log(context.Background(), level, "packages are not offered by CoAP: Delivery.ServeCoAP is not mounted at DeliveryConfig.Prefix",
					"prefix", d.config.Prefix)
			})
			continue
		}
		list = append(list, p)
	}
	return list
}

// atServer reports whether base makes the base of a protocol from the address of the device's own
// server.
func (d *Delivery) atServer(p fsm.Protocol) bool {
	scheme, _, _ := strings.Cut(d.config.BaseURL, ":")
	return d.config.BaseURLs == nil && !strings.EqualFold(scheme, p.String())
}

// preferred lists the protocols in the order of the radio time that a device needs for a megabyte.
var preferred = []fsm.Protocol{
	fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAPSTCP, fsm.ProtocolCoAPTCP, fsm.ProtocolCoAPS, fsm.ProtocolCoAP,
}
