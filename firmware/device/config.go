package device

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// Config is the configuration of a [Device]. The zero value takes packages by push and by pull,
// from any host.
type Config struct {
	// ObjectVersion is the highest version of Object 5 that the device offers: fsm.Object10,
	// Object11 or Object12. With LwM2M 1.0 the device offers 1.0 and with LwM2M 1.1 at most 1.1,
	// whatever is set here. Default: fsm.Object11.
	ObjectVersion fsm.ObjectVersion
	// Delivery restricts the device to push or to pull (resource 5/0/9). Default: both.
	Delivery fsm.DeliveryMode
	// Protocols lists the protocols by which the device downloads packages (resource 5/0/8). coaps
	// and coaps+tcp need Credentials. Default: coap, http, https and coap+tcp; with Credentials
	// also coaps and coaps+tcp.
	Protocols []fsm.Protocol
	// Hosts lists the hosts from which the device downloads, each "name" or "name:port". A Package
	// URI with another host is refused with Result 7 (invalid URI). Default: every host is allowed.
	Hosts []string
	// FixedHost is for a device whose download server is part of its firmware, such as
	// "https://fw.example.com". The Package URI must then be a path, which the device appends.
	// Default: the Package URI is absolute.
	FixedHost string
	// MaxRedirects is how many HTTP redirects a download follows, each to an allowed host and never
	// from https to http. Default: 0, a redirect fails with Result 7 (invalid URI).
	MaxRedirects int

	// TLS configures https. Default: the roots of the operating system, TLS 1.2 or later.
	TLS *tls.Config
	// Transport sends the HTTP requests, in place of one that the device makes with TLS. It must
	// not decompress bodies. A RoundTrip that panics, or that has not returned 30 s after the
	// context of its request has ended, counts as failed. The same holds for the functions of TLS.
	// Default: none.
	Transport http.RoundTripper
	// Credentials returns the keys for a download by coaps or coaps+tcp from host, "name:port". If
	// it returns neither PSK nor Certificate nor RootCAs for a host, the download fails with Result
	// 7 (invalid URI). [ServerCredentials] is one that offers the keys of the LwM2M server to that
	// server only. A call that panics or takes longer than 10 s ends the download with Result 4
	// (connection lost). Default: none.
	Credentials func(host string) lwm2m.FetchConfig

	// Attempts is how many tries of a download may fail in a row, none of which gets further,
	// before the download ends with Result 4 (connection lost). Default: 5.
	Attempts int
	// MinBackoff is the pause after the first failed try. Each further pause is twice as long, up
	// to MaxBackoff. Defaults: 1 s, and 1 min or MinBackoff if that is longer.
	MinBackoff, MaxBackoff time.Duration
	// Idle is how long a download by HTTP waits for the next bytes before the try counts as failed.
	// The time that the Installer takes to store bytes does not count. Default: 30 s.
	Idle time.Duration
	// MaxSize is the size of the largest package in bytes. A larger one ends with Result 2 (no
	// storage); if it is pushed, its Write is answered with 5.00. Default: only the Installer
	// limits the size.
	MaxSize int64
	// SyncEvery is how many bytes of a download the device makes durable at a time, which is what a
	// crash can cost. Default: 256 KiB.
	SyncEvery int64

	// ConfirmWithin is how long a version on trial may take to register and to pass SelfTest before
	// the device rolls it back. Default: 60 s.
	ConfirmWithin time.Duration
	// SelfTest is called after a version on trial has registered, and says whether it works. If it
	// returns an error, panics, or has not returned when ConfirmWithin is over, the device rolls
	// back. Its context ends with ConfirmWithin; the device waits 30 s longer for it to return
	// before its run ends. Default: a version that registers works.
	SelfTest func(context.Context) error
	// Defer is called when the server executes the update (5/0/2), and returns true to defer it,
	// which counts only if the server allows that (5/0/13); [Device.Accept] then starts it. A call
	// that panics or takes longer than 10 s defers the update. Default: no update is deferred.
	Defer func() bool
	// Logger receives the logs of the device. Package URIs are logged without their last path
	// segment, which may be a secret. Default: no logs.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.ObjectVersion = cmp.Or(c.ObjectVersion, fsm.Object11)
	c.Attempts = cmp.Or(c.Attempts, 5)
	c.MinBackoff = cmp.Or(c.MinBackoff, time.Second)
	c.MaxBackoff = max(cmp.Or(c.MaxBackoff, time.Minute), c.MinBackoff)
	c.Idle = cmp.Or(c.Idle, 30*time.Second)
	c.SyncEvery = cmp.Or(c.SyncEvery, 256<<10)
	c.ConfirmWithin = cmp.Or(c.ConfirmWithin, time.Minute)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	if len(c.Protocols) == 0 {
		c.Protocols = []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP}
		if c.Credentials != nil {
			c.Protocols = append(c.Protocols, fsm.ProtocolCoAPS, fsm.ProtocolCoAPSTCP)
		}
	}
	return c
}

// check returns what is wrong with the configuration, before defaults are filled in.
func (c Config) check() error {
	switch c.ObjectVersion {
	case 0, fsm.Object10, fsm.Object11, fsm.Object12:
	default:
		return wrong("ObjectVersion", "%d is none of Object10, Object11 and Object12", uint8(c.ObjectVersion))
	}
	switch c.Delivery {
	case fsm.DeliveryAuto, fsm.DeliveryPush, fsm.DeliveryPull:
	default:
		return wrong("Delivery", "%q is not push, pull or empty", string(c.Delivery))
	}
	if err := c.checkNumbers(); err != nil {
		return err
	}
	if err := c.checkProtocols(); err != nil {
		return err
	}
	for _, host := range c.Hosts {
		if err := checkHost(host); err != nil {
			return wrong("Hosts", "%q is %w", host, err)
		}
	}
	return c.checkFixedHost()
}

// wrong returns an error about a field of a configuration.
func wrong(field, problem string, args ...any) error { return fmt.Errorf(field+": "+problem, args...) }

func (c Config) checkNumbers() error {
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"MaxRedirects", int64(c.MaxRedirects)}, {"Attempts", int64(c.Attempts)}, {"MaxSize", c.MaxSize}, {"SyncEvery", c.SyncEvery},
	} {
		if n.value < 0 {
			return wrong(n.name, "%d is negative", n.value)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"MinBackoff", c.MinBackoff}, {"MaxBackoff", c.MaxBackoff}, {"Idle", c.Idle}, {"ConfirmWithin", c.ConfirmWithin},
	} {
		if d.value < 0 {
			return wrong(d.name, "%v is negative", d.value)
		}
	}
	if c.MaxBackoff > 0 && c.MaxBackoff < c.MinBackoff {
		return wrong("MaxBackoff", "%v is below MinBackoff, %v", c.MaxBackoff, c.MinBackoff)
	}
	return nil
}

func (c Config) checkProtocols() error {
	seen := map[fsm.Protocol]bool{}
	for _, p := range c.Protocols {
		switch {
		case p.Number() < 0:
			return wrong("Protocols", "%q is no protocol of resource 5/0/8", string(p))
		case seen[p]:
			return wrong("Protocols", "%s is there twice", p)
		case secured(p) && c.Credentials == nil:
			return wrong("Protocols", "%s needs Credentials, which is not set", p)
		}
		seen[p] = true
	}
	if c.TLS != nil && c.Transport != nil {
		return wrong("TLS", "Transport is set, too")
	}
	return nil
}

// secured reports whether p is a CoAP protocol that needs keys.
func secured(p fsm.Protocol) bool { return p == fsm.ProtocolCoAPS || p == fsm.ProtocolCoAPSTCP }

var errNoHost = errors.New("no host name with perhaps a port")

// checkHost checks an entry of Hosts: "name", "name:port", or an IP address with or without a port.
func checkHost(host string) error {
	name := host
	if n, port, err := net.SplitHostPort(host); err == nil {
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return errNoHost
		}
		name = n
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if name == "" || strings.ContainsAny(name, "/@?# ") || strings.Contains(name, ":") && net.ParseIP(name) == nil {
		return errNoHost
	}
	return nil
}

func (c Config) checkFixedHost() error {
	if c.FixedHost == "" {
		return nil
	}
	u, err := url.Parse(c.FixedHost)
	if err != nil || u.Scheme == "" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return wrong("FixedHost", "%q is not a scheme, a host and perhaps a path", c.FixedHost)
	}
	if secured(fsm.Protocol(u.Scheme)) && c.Credentials == nil {
		return wrong("FixedHost", "%s needs Credentials, which is not set", u.Scheme)
	}
	if err := c.withDefaults().allowed(u); err != nil {
		if re, ok := errors.AsType[*ResultError](err); ok {
			err = re.Err
		}
		return wrong("FixedHost", "Protocols or Hosts exclude %q: %w", c.FixedHost, err)
	}
	return nil
}

func (c Config) method() fsm.DeliverySupport {
	switch c.Delivery {
	case fsm.DeliveryPush:
		return fsm.PushOnly
	case fsm.DeliveryPull:
		return fsm.PullOnly
	default:
		return fsm.PushAndPull
	}
}
