package firmware

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/internal/door"
	"github.com/otago-iot/otago/internal/problem"
	"github.com/otago-iot/otago/lwm2m"
)

// ServeHTTP serves packages over HTTP and HTTPS: GET and HEAD, with ranges, a strong ETag and
// conditional requests. It looks only at the secret in the last segment of a path, so that a
// Delivery can be mounted at any prefix. It never redirects. An unknown path gets 404, or 503 while
// the manager loads the grants of updates active at the start.
//
// An http.ServeMux redirects a path like "//fw/x", and simple devices do not follow redirects. For
// such devices make the Delivery, or the handler of [Delivery.Wrap], the server's handler, not a
// mux.
//
// ServeHTTP limits its waits, for a device that does not read and for a request's body, with the
// deadlines of http.ResponseController. Middleware between the server and the Delivery must not
// hide them: its ResponseWriter needs an Unwrap method. http.TimeoutHandler would keep whole
// packages in memory. The server must limit the number of connections, and the waits for headers,
// for the next request, for handshakes, and for bodies that no handler reads (ReadTimeout); the
// server of [NewHTTPServer] does. In another server the kernel's buffers hide a slow device's
// progress, and the Delivery may give up a device that reads less than they hold within
// DeliveryConfig.Stall.
func (d *Delivery) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w, req, done := door.Limit(w, req, d.config.Stall, door.Piece)
	defer done()
	by := "http"
	if req.TLS != nil {
		by = "https"
	}
	s, err := d.find(req.Context(), req.URL.Path, "", by)
	switch {
	case errors.Is(err, errNotReady):
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		problem.Write(w, problem.Of(http.StatusServiceUnavailable, "the server has just started"))
		return
	case errors.Is(err, errNoGrant):
		problem.Write(w, problem.Of(http.StatusNotFound, "nothing can be downloaded here, or not any more"))
		return
	case lost(err):
		problem.Write(w, problem.Of(http.StatusInternalServerError, "the image cannot be read"))
		return
	case err != nil:
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		problem.Write(w, problem.Of(http.StatusServiceUnavailable, "the image cannot be read now"))
		return
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		problem.Write(w, problem.Of(http.StatusMethodNotAllowed, "a package can only be read"))
		return
	}
	s.ctx = req.Context()
	h := w.Header()
	h.Set("ETag", `"`+hex.EncodeToString(s.etag)+`"`)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Cache-Control", "private, no-store, no-transform")
	h.Set("X-Content-Type-Options", "nosniff")
	asked := req.Header.Get("Range")
	ranges, inBytes := strings.CutPrefix(asked, "bytes=")
	if last, tail := strings.CutPrefix(ranges, "-"); asked != "" && (!inBytes || strings.Contains(ranges, ",") || tail && strings.Trim(last, "0 ") == "") {
		// Serve the whole package, as RFC 9110 allows, for several ranges and for units other than
		// bytes: no device needs them. Also for the last 0 bytes, to which net/http would answer
		// 206 with an invalid range.
		req = req.Clone(req.Context())
		req.Header.Del("Range")
	}
	to := &counted{ResponseWriter: w, s: s, count: req.Method == http.MethodGet}
	http.ServeContent(to, req, "", time.Time{}, &arriving{io.NewSectionReader(s, 0, s.size), s.pkg})
}

// An arriving package returns the bytes that are there, so that a device gets the first bytes of a
// package that is still being copied.
type arriving struct {
	*io.SectionReader
	pkg *Package
}

func (a *arriving) Read(p []byte) (int, error) {
	if m := a.pkg.shared.mirror(); m != nil {
		at, err := a.Seek(0, io.SeekCurrent)
		if err != nil {
			return 0, err
		}
		p = p[:min(int64(len(p)), max(1, m.there()-at))]
	}
	return a.SectionReader.Read(p)
}

// Wrap returns a handler that serves downloads as [Delivery.ServeHTTP] does, below the prefixes of
// [DeliveryConfig], and passes all other requests to next, unchanged. It needs the same limits of
// the server as ServeHTTP. It does not limit the waits of next.
func (d *Delivery) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path := "/" + strings.TrimLeft(req.URL.Path, "/")
		if strings.HasPrefix(path, d.config.Prefix) || strings.HasPrefix(path, d.config.PublicPrefix) {
			d.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// ServeCoAP serves packages on an lwm2m.Server, over each of its transports:
//
//	srv.HandleFunc("/", delivery.ServeCoAP)
//
// Without that the manager offers devices no download by CoAP, unless DeliveryConfig.BaseURL or
// BaseURLs names another server for it.
//
// If several deliveries share a server, mount each at its own DeliveryConfig.Prefix and
// PublicPrefix. A request on the association of a registered endpoint finds only the grants of that
// endpoint. For any other request, such as that of a device that downloads from a second socket,
// the secret alone decides. The error is lwm2m.ErrNotFound, or lwm2m.ErrUnavailable while the
// manager loads the grants, if the image cannot be read, or until it is copied from its [Blobs]:
// see [NewRepository].
func (d *Delivery) ServeCoAP(ctx context.Context, req lwm2m.DownloadRequest) (*lwm2m.Download, error) {
	s, err := d.find(ctx, req.Path, req.Endpoint, req.Transport.String())
	switch {
	case errors.Is(err, errNoGrant):
		return nil, lwm2m.ErrNotFound
	case err != nil:
		return nil, lwm2m.ErrUnavailable
	}
	if !s.pkg.ready() {
		return nil, lwm2m.ErrUnavailable
	}
	return &lwm2m.Download{Body: s, Size: s.size, ETag: s.etag, Progress: s.reached}, nil
}

// retryAfter is the Retry-After of a 503, in seconds.
const retryAfter = 5

// copyBuffers have the pieces of packages that are copied.
var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// A counted response reports the progress of a download.
type counted struct {
	http.ResponseWriter
	s     *served
	count bool  // the body is the package
	at    int64 // offset in the package of the next Write
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

// ReadFrom implements io.ReaderFrom.
func (p *counted) ReadFrom(r io.Reader) (int64, error) {
	b := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{p}, r, b[:])
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
