package firmware

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/internal/door"
)

// Handler returns a handler by which devices download packages, over HTTP and HTTPS: GET and HEAD, with ranges, a strong
// ETag and conditions on it. The secret in a path's last segment decides, so that it can be mounted at any prefix. It
// never redirects. Paths that lead nowhere get 404, or 503 while the manager has not yet loaded what was granted before
// the start.
//
// An http.ServeMux answers a path like "//fw/x" with a redirect, which simple devices do not follow. A server for such
// devices has this handler, or [Repository.Wrap], as its root, not behind a mux.
//
// The handler limits its own waits, for a device that takes nothing and for a body that nobody wants, by the deadlines of
// http.ResponseController; middleware between the server and the handler must not hide them (see its documentation on Unwrap),
// and http.TimeoutHandler would keep whole packages in memory. The server has to limit the waits for headers, for the next
// request, for handshakes, and for what it reads without a handler (its ReadTimeout), and the number of connections: that of
// [NewHTTPServer] does. In another one the kernel's buffers decide what the handler sees of a slow device's progress, and one
// may be given up that reads less than they hold within RepositoryConfig.Stall.
func (r *Repository) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.deliver(w, req) })
}

// Wrap returns a handler that serves downloads as [Repository.Handler] does, below the prefixes of [RepositoryConfig], and
// hands all other requests to next, untouched. It needs of its server what [Repository.Handler] does; the waits of next are its own.
func (r *Repository) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := "/" + strings.TrimLeft(req.URL.Path, "/")
		if strings.HasPrefix(path, r.cfg.Prefix) || strings.HasPrefix(path, r.cfg.PublicPrefix) {
			r.deliver(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// retryAfter is what a device is told to wait, in seconds, while the grants are being loaded.
const retryAfter = 5

func (r *Repository) deliver(w http.ResponseWriter, req *http.Request) {
	w, req, done := door.Limit(w, req, r.cfg.Stall)
	defer done()
	by := "http"
	if req.TLS != nil {
		by = "https"
	}
	s, err := r.find(req.Context(), req.URL.Path, "", by)
	switch {
	case errors.Is(err, errNotReady):
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		problem(w, http.StatusServiceUnavailable, "the server has just started")
		return
	case errors.Is(err, errNoGrant):
		problem(w, http.StatusNotFound, "nothing can be downloaded here, or not any more")
		return
	case err != nil:
		problem(w, http.StatusInternalServerError, "the image cannot be read")
		return
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		problem(w, http.StatusMethodNotAllowed, "a package can only be read")
		return
	}
	h := w.Header()
	h.Set("ETag", `"`+hex.EncodeToString(s.etag)+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, no-store, no-transform")
	h.Set("X-Content-Type-Options", "nosniff")
	ranges, inBytes := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	if last, tail := strings.CutPrefix(ranges, "-"); !inBytes || strings.Contains(ranges, ",") || tail && strings.Trim(last, "0 ") == "" {
		// Several ranges at once are nothing that a device needs: it gets the whole, as RFC 9110 allows, and demands for
		// units other than bytes. To one for the last 0 bytes net/http answers 206, with a range that is none.
		req = req.Clone(req.Context())
		req.Header.Del("Range")
	}
	to := &counted{ResponseWriter: w, s: s, count: req.Method == http.MethodGet}
	http.ServeContent(to, req, "", time.Time{}, io.NewSectionReader(s, 0, s.size))
}

// A counted response tells how far the device is.
type counted struct {
	http.ResponseWriter
	s     *served
	count bool  // the body is the package
	at    int64 // offset in the package of what is written next
}

func (p *counted) WriteHeader(status int) {
	switch status {
	case http.StatusOK:
	case http.StatusPartialContent:
		if _, err := fmt.Sscanf(p.Header().Get("Content-Range"), "bytes %d-", &p.at); err != nil {
			p.count = false
		}
	default:
		p.count = false
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *counted) Write(b []byte) (int, error) {
	n, err := p.ResponseWriter.Write(b)
	if p.count && n > 0 {
		start := p.at
		p.at += int64(n)
		if !p.s.sent(start, p.at) && err == nil {
			err = errNoGrant
		}
	}
	return n, err
}

// problem answers with a problem document (RFC 9457).
func problem(w http.ResponseWriter, status int, detail string) {
	body, _ := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, detail})
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}
