package backend

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"log" //nolint:depguard // net/http wants a log.Logger
	"net"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/internal/problem"
)

// serveHTTP serves a door until ctx ends.
func (b *Backend) serveHTTP(ctx context.Context, door Door, l net.Listener, handler http.Handler, errorLog *log.Logger) error {
	config := b.config.Web
	if door == HTTP {
		config.Open = isHealth
	}
	server := config.NewServer(handler)
	server.ErrorLog = errorLog
	count(server, b.open[door])
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

// An operator may use the API with a token.
type operator struct {
	name string
	sum  [sha256.Size]byte // of the token
}

// operators are those who may use the API; none means everybody who reaches it.
type operators []operator

// anOperator is the name of an operator whose token has none.
const anOperator = "operator"

// parseOperators reads a line for each operator: a token, or a name and a token.
func parseOperators(tokens []byte) (list operators, err error) {
	for line := range bytes.Lines(tokens) {
		name, token := []byte(anOperator), bytes.TrimSpace(line)
		if fields := bytes.Fields(line); len(fields) == 2 {
			name, token = fields[0], fields[1]
		}
		switch {
		case len(token) == 0:
			continue
		case bytes.ContainsAny(token, " \t"), len(name) > 64, !utf8.Valid(name):
			return nil, errors.New("a line of the operators' tokens is neither a token nor a name and a token")
		}
		list = append(list, operator{string(name), sha256.Sum256(token)})
	}
	if tokens != nil && len(list) == 0 {
		return nil, errors.New("there is no token of an operator")
	}
	return list, nil
}

// of returns who sends a request. It compares with every token, in constant time.
func (o operators) of(r *http.Request) (name string, ok bool) {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	got := sha256.Sum256([]byte(strings.TrimSpace(shown)))
	for i := range o {
		if subtle.ConstantTimeCompare(got[:], o[i].sum[:]) == 1 && strings.EqualFold(scheme, "Bearer") {
			name, ok = o[i].name, true
		}
	}
	return name, ok
}

// authorize lets every operator do everything.
func (o operators) authorize(r *http.Request, _ httpapi.Access) error {
	if _, ok := o.of(r); !ok && len(o) > 0 {
		return httpapi.ErrUnauthenticated
	}
	return nil
}

// actor says who sends a request, for journals.
func (o operators) actor(r *http.Request) string {
	if name, ok := o.of(r); ok {
		return name
	}
	return anOperator
}

// operatorsHandler serves the API, and the page for what the API does not have. No mux: it would
// clean paths of the API, whose endpoints may contain slashes.
func operatorsHandler(api, page http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.EscapedPath(), "/api/") {
			api.ServeHTTP(w, r)
			return
		}
		page.ServeHTTP(w, r)
	})
}

// withMetrics answers requests of operators for /metrics, and passes the others on.
func (b *Backend) withMetrics(next http.Handler) http.Handler {
	if b.config.Metrics == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch err := b.operators.authorize(r, httpapi.Access{}); {
		case r.URL.Path != "/metrics":
			next.ServeHTTP(w, r)
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer realm="otago"`)
			problem.Write(w, problem.Of(http.StatusUnauthorized, "the request needs valid credentials"))
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			problem.Write(w, problem.Of(http.StatusMethodNotAllowed, "the metrics are read by GET"))
		default:
			w.Header().Set("Cache-Control", "no-store")
			b.config.Metrics.ServeHTTP(w, r)
		}
	})
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
