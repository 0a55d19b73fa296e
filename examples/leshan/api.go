package leshan

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// The bounds of the REST API.
const (
	// maxRequests is how many requests are answered at once. They may wait long for a device.
	maxRequests = 1024
	// maxBody is the largest body of a request in bytes.
	maxBody = 1 << 20
	// defaultTimeout is Leshan's, for a request without timeout=; maxTimeout bounds that of others.
	defaultTimeout, maxTimeout = 5 * time.Second, 10 * time.Minute
	// answerTime is how long the caller may take to read an answer.
	answerTime = 30 * time.Second
)

// A reply is an answer of the REST API: JSON, or text as Leshan writes its errors.
type reply struct {
	status int
	json   any
	text   string
}

// ServeHTTP implements [http.Handler]: the REST API of Leshan's ClientServlet, below /api/clients.
// It refuses what a page in a browser sends, since it does not know who asks.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header()["Content-Type"] = nil // Leshan's texts have none
	if why := b.foreign(r); why != "" {
		write1(w, reply{status: http.StatusForbidden, text: why})
		return
	}
	rest, ours := strings.CutPrefix(r.URL.Path, "/api/clients")
	if !ours || rest != "" && rest[0] != '/' {
		write1(w, reply{status: http.StatusNotFound, text: "there is only /api/clients"})
		return
	}
	select {
	case b.places <- struct{}{}:
		defer func() { <-b.places }()
	default:
		write1(w, reply{status: http.StatusServiceUnavailable, text: "too many requests wait for devices"})
		return
	}
	limits := http.NewResponseController(w) // a server that does not support limits has none
	_ = limits.SetWriteDeadline(time.Time{})
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if rest == "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		_ = limits.SetWriteDeadline(time.Now().Add(maxTimeout))
		b.listClients(w)
		return
	}
	answer := b.route(r, rest) // r.Context may have ended because the server stops: an answer still counts
	_ = limits.SetWriteDeadline(time.Now().Add(answerTime))
	write1(w, answer)
}

// write1 writes an answer. An error of the connection has no reader left.
func write1(w http.ResponseWriter, a reply) {
	if a.json == nil {
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.text)
		return
	}
	data, err := json.Marshal(a.json)
	if err != nil { // strings, numbers and nodes
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(data)
}

// foreign says why a request is refused: because a page in a browser has sent it, or because it is
// for a name that is not this host's own. A page on the Internet can point its name to 127.0.0.1,
// but then its requests carry that name. Names without a dot are those of a private network, such
// as leshan in the compose file of flownexus.
func (b *Bridge) foreign(r *http.Request) string {
	site := r.Header.Get("Sec-Fetch-Site")
	if len(r.Header["Origin"]) > 0 || site != "" && site != "none" {
		return "pages in a browser cannot use this API"
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if _, err := netip.ParseAddr(host); err == nil || !strings.Contains(strings.TrimSuffix(host, "."), ".") {
		return ""
	}
	for _, known := range b.config.Hosts {
		if strings.EqualFold(known, host) {
			return ""
		}
	}
	return "this API answers only to IP addresses and names of its own network as Host"
}

// route answers a request for one client.
func (b *Bridge) route(r *http.Request, rest string) reply {
	endpoint, path := b.split(rest)
	c := call{b, r, endpoint, path}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return c.get()
	case http.MethodPut:
		return c.put()
	case http.MethodPost:
		return c.post()
	case http.MethodDelete:
		return c.delete()
	}
	return reply{status: http.StatusMethodNotAllowed}
}

// split returns the endpoint and the segments after it. Django does not escape endpoints: one with
// a slash is found among the registered ones.
func (b *Bridge) split(rest string) (endpoint string, path []string) {
	segments := strings.FieldsFunc(rest, func(c rune) bool { return c == '/' })
	if len(segments) == 0 {
		return "", nil
	}
	for n := 1; n <= min(len(segments), 16); n++ {
		if name := strings.Join(segments[:n], "/"); b.server.Registered(name) {
			return name, segments[n:]
		}
	}
	return segments[0], segments[1:]
}

// A call is a request for one client. path are the segments after the endpoint.
type call struct {
	*Bridge
	r        *http.Request
	endpoint string
	path     []string
}

// invalidPath is Leshan's answer to a path that names nothing.
var invalidPath = reply{status: http.StatusBadRequest}

// unregistered is the answer for an endpoint that is not registered. Leshan's text begins with a
// capital letter or not, depending on the operation.
func (c call) unregistered(no string) reply {
	return reply{status: http.StatusBadRequest, text: fmt.Sprintf("%s registered client with id '%s'", no, c.endpoint)}
}

func (c call) known() bool { return c.endpoint != "" && c.server.Registered(c.endpoint) }

// last reports whether the path ends with a word, and removes it.
func (c *call) last(word string) bool {
	n := len(c.path)
	if n < 2 || c.path[n-1] != word {
		return false
	}
	c.path = c.path[:n-1]
	return true
}

// target returns the LwM2M path of the request.
func (c call) target() (lwm2m.Path, *reply) {
	p, err := lwm2m.ParsePath("/" + strings.Join(c.path, "/"))
	if err != nil {
		a := invalidRequest("Invalid elements in path %s", strings.Join(c.path, "/"))
		return p, &a
	}
	return p, nil
}

// invalidRequest is the answer to a request that Leshan refuses to send.
func invalidRequest(format string, args ...any) reply {
	return reply{status: http.StatusBadRequest, text: "Invalid request: " + fmt.Sprintf(format, args...)}
}

// unexpected is the answer to what Leshan did not expect.
func unexpected(what any) reply {
	return reply{status: http.StatusInternalServerError, text: fmt.Sprintf("Unexpected exception: %v", what)}
}

// timeout returns the time that the caller gives, in seconds.
func (c call) timeout() time.Duration {
	n, err := strconv.ParseInt(c.r.URL.Query().Get("timeout"), 10, 64)
	if err != nil {
		return defaultTimeout
	}
	return time.Duration(min(max(n, 0), int64(maxTimeout/time.Second))) * time.Second
}

// format returns the content format that a parameter names; nil if it names none that is known.
func (c call) format(parameter string) *lwm2m.ContentFormat {
	f, ok := map[string]lwm2m.ContentFormat{
		"TLV": lwm2m.FormatTLV, "JSON": lwm2m.FormatJSON, "TEXT": lwm2m.FormatText, "OPAQUE": lwm2m.FormatOpaque,
		"LINK": lwm2m.FormatLink, "CBOR": lwm2m.FormatCBOR, "SENML_JSON": lwm2m.FormatSenMLJSON, "SENML_CBOR": lwm2m.FormatSenMLCBOR,
	}[strings.ToUpper(c.r.URL.Query().Get(parameter))]
	if !ok {
		return nil
	}
	return &f
}

// body reads the body of the request.
func (c call) body() ([]byte, *reply) {
	data, err := io.ReadAll(c.r.Body)
	if err != nil {
		a := invalidRequest("%v", err)
		return nil, &a
	}
	return data, nil
}

// listClients writes all registrations that live.
func (b *Bridge) listClients(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriter(w)
	separator := "["
	for r := range b.server.Registrations() {
		if !r.Ended.IsZero() {
			continue
		}
		data, err := json.Marshal(clientOf(r, time.Now()))
		if err != nil { // strings and numbers
			panic(err)
		}
		_, _ = out.WriteString(separator) // Flush has the error
		_, _ = out.Write(data)
		separator = ","
	}
	if separator == "[" {
		_, _ = out.WriteString("[")
	}
	_, _ = out.WriteString("]")
	_ = out.Flush() // the caller has gone
}
