package backend

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"log" //nolint:depguard // net/http wants a log.Logger
	"net"
	"net/http"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/internal/problem"
)

// serveHTTP serves until ctx ends.
func (b *Backend) serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, errorLog *log.Logger) error {
	server := b.config.Web.NewServer(handler)
	server.ErrorLog = errorLog
	return firmware.RunHTTPServer(ctx, server, l)
}

// withTLS is for devices that download, some of which have small buffers.
func withTLS(l net.Listener, certificate tls.Certificate) net.Listener {
	return firmware.NewTLSListener(l, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"http/1.1"},
	})
}

// bearer checks a token in constant time. Without a token it accepts every request.
func bearer(token []byte) func(*http.Request, httpapi.Access) error {
	if token == nil {
		return httpapi.AllowAll
	}
	want := sha256.Sum256(token)
	return func(r *http.Request, _ httpapi.Access) error {
		scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(shown)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			return httpapi.ErrUnauthenticated
		}
		return nil
	}
}

// ownHostsOnly refuses requests for names that are not this machine's own. A page on the Internet
// can point its name to 127.0.0.1 and so have the same origin as the API, but its requests still
// carry that name.
func ownHostsOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if h, _, err := net.SplitHostPort(host); err == nil {
			host = h
		}
		host = strings.Trim(host, "[]")
		if host != "" && !strings.EqualFold(host, "localhost") && net.ParseIP(host) == nil {
			problem.Write(w, problem.Of(http.StatusMisdirectedRequest,
				"without a token the API answers only to localhost and IP addresses as Host"))
			return
		}
		next.ServeHTTP(w, r)
	})
}
