package device

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
)

func invalidURI(format string, args ...any) error {
	return &ResultError{Result: fsm.ResultInvalidURI, Err: fmt.Errorf(format, args...)}
}

// source checks a Package URI and returns what to download. Errors carry Result 7, or 9 for a
// protocol that the device does not support.
func (c Config) source(uri string) (*url.URL, error) {
	if len(uri) > fsm.MaxURI {
		return nil, invalidURI("longer than %d bytes", fsm.MaxURI)
	}
	if c.FixedHost != "" {
		return c.fixed(uri)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, invalidURI("not a URI") // the error of the parser contains the URI
	}
	if u.Scheme == "" || u.Opaque != "" || u.Host == "" {
		if u.Scheme != "" && !slices.Contains(c.Protocols, fsm.Protocol(u.Scheme)) {
			return nil, unsupported(u.Scheme)
		}
		return nil, invalidURI("not an absolute URI with a host")
	}
	return u, c.allowed(u)
}

// fixed returns the URL of a path on the fixed host. No path can change the host.
func (c Config) fixed(path string) (*url.URL, error) {
	base, err := url.Parse(c.FixedHost) // New has checked it
	if err != nil {
		return nil, invalidURI("the fixed host is not a URI")
	}
	if !strings.HasPrefix(path, "/") {
		return nil, invalidURI("this device takes a path only")
	}
	ref, err := url.ParseRequestURI(path)
	if err != nil || ref.Scheme != "" || ref.Host != "" {
		return nil, invalidURI("not a path")
	}
	u := *base
	u.Path = strings.TrimSuffix(base.Path, "/") + ref.Path
	u.RawPath = strings.TrimSuffix(base.EscapedPath(), "/") + ref.EscapedPath()
	u.RawQuery = ref.RawQuery
	return &u, c.allowed(&u)
}

func unsupported(scheme string) error {
	return &ResultError{Result: fsm.ResultUnsupProtocol, Err: fmt.Errorf("scheme %q", scheme)}
}

// allowed checks each URL before it is requested, those of redirects too.
func (c Config) allowed(u *url.URL) error {
	switch {
	case !slices.Contains(c.Protocols, fsm.Protocol(u.Scheme)):
		return unsupported(u.Scheme)
	case u.User != nil:
		return invalidURI("user information in the URI")
	case u.Fragment != "":
		return invalidURI("a fragment in the URI")
	case u.Hostname() == "":
		return invalidURI("no host in the URI")
	case len(c.Hosts) == 0:
		return nil
	}
	for _, host := range c.Hosts {
		if strings.EqualFold(host, u.Hostname()) || strings.EqualFold(host, u.Host) || strings.EqualFold(host, hostPort(u)) {
			return nil
		}
	}
	return invalidURI("host %q is not allowed", u.Host)
}

var defaultPorts = map[string]string{
	"http": "80", "https": "443", "coap": "5683", "coaps": "5684", "coap+tcp": "5683", "coaps+tcp": "5684",
}

// hostPort returns host and port, the default port of the scheme if the URL has none.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return strings.TrimSuffix(u.Host, ":") + ":" + defaultPorts[u.Scheme]
}

// showURL returns a URL for logs, without the last path segment, which may be a secret.
func showURL(u *url.URL) string {
	if u == nil {
		return ""
	}
	path := u.Path[:strings.LastIndexByte(u.Path, '/')+1]
	return u.Scheme + "://" + u.Host + path + "..."
}

// withoutURL returns the cause of an error of net/http, whose text contains the URL.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
