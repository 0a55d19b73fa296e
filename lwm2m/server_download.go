package lwm2m

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"sync"

	"github.com/otago-iot/otago/internal/coap"
)

// DownloadRequest is a GET for something that is not LwM2M, such as a firmware image.
type DownloadRequest struct {
	// Path is the path as the peer sent it, decoded, with a leading slash. Empty segments are kept:
	// "//x".
	Path string
	// Query holds the parts of the query, "name=value" each.
	Query []string
	// Endpoint is the registered endpoint whose association the request came on; "" if there is
	// none.
	Endpoint string
	// Identity is the identity that the peer has proven, of a certificate the first name; zero
	// without credentials.
	Identity Identity
	// Address is the peer's address, Local the server's address that it used.
	Address, Local netip.AddrPort
	Transport      Transport
}

// Download is the answer of a server to a GET, in blocks if it is big.
type Download struct {
	// Body is read at any offset, and by several goroutines at once if it answers more than one
	// GET. If it is an io.Closer, the server closes it once the peer asks for no more blocks.
	Body io.ReaderAt
	// Size is the number of bytes in Body.
	Size int64
	// ETag identifies the bytes: 1 to 8 bytes. Default: none, and then a download cannot be resumed
	// safely.
	ETag []byte
	// Format is the content format of the answer; a request that accepts only another one is
	// answered with 4.06. Default: FormatOpaque, as FormatText is 0.
	Format ContentFormat
	// Progress is called after each block with the offset of its end. It must not block. Default:
	// none.
	Progress func(offset int64)
}

type downloadFunc = func(context.Context, DownloadRequest) (*Download, error)

// handlers serve downloads.
type handlers struct {
	mu       sync.RWMutex
	exact    map[string]*Download
	prefixes map[string]downloadFunc
}

// Handle serves r for GET of exactly path, on all transports. It replaces an earlier Download; nil
// removes it.
func (s *Server) Handle(path string, r *Download) {
	h := &s.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	if r == nil {
		delete(h.exact, path)
		return
	}
	if h.exact == nil {
		h.exact = make(map[string]*Download)
	}
	h.exact[path] = r
}

// HandleFunc calls fn for GET of a path that begins with prefix. The longest prefix counts; Handle
// precedes all prefixes. Empty segments at the start of a path do not count: "//fw/x" begins with
// "/fw/". Prefix "/" matches all paths that are not LwM2M's. fn is called once for a download, or
// more often when the peer pauses; it should be quick. The server answers an error with its code,
// see [Object]; (nil, nil) with 4.04. A nil fn removes the prefix.
func (s *Server) HandleFunc(prefix string, fn func(context.Context, DownloadRequest) (*Download, error)) {
	h := &s.handlers
	h.mu.Lock()
	defer h.mu.Unlock()
	if fn == nil {
		delete(h.prefixes, prefix)
		return
	}
	if h.prefixes == nil {
		h.prefixes = make(map[string]downloadFunc)
	}
	h.prefixes[prefix] = fn
}

// Handles reports whether Handle or HandleFunc serves GET of path now.
func (s *Server) Handles(path string) bool { return s.handlers.find(path) != nil }

// find returns the function for path, nil if there is none.
func (h *handlers) find(path string) downloadFunc {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if r := h.exact[path]; r != nil {
		return func(context.Context, DownloadRequest) (*Download, error) { return r, nil }
	}
	path = "/" + strings.TrimLeft(path, "/")
	for n := len(path); n > 0; n-- {
		if fn := h.prefixes[path[:n]]; fn != nil {
			return fn
		}
	}
	return nil
}

// serveCOAP answers the requests of devices.
func (s *Server) serveCOAP(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
	segments := r.Segments()
	if n := len(segments); n > 1 && segments[n-1] == "" && segments[0] == "rd" {
		segments = segments[:n-1] // some devices write /rd/
	}
	if len(segments) > 0 && (segments[0] == "rd" || segments[0] == "dp") {
		return s.serveLwM2M(ctx, r, segments)
	}
	fn := s.handlers.find(r.Path())
	if fn == nil {
		return errorResponse(ErrNotFound)
	}
	if r.Code != coap.GET {
		return errorResponse(ErrMethodNotAllowed)
	}
	return s.serveDownload(ctx, r, s.heard(r.Peer), fn)
}

// serveLwM2M answers the requests of the registration and the information reporting interface.
func (s *Server) serveLwM2M(ctx context.Context, r *coap.IncomingRequest, segments []string) *coap.Response {
	switch {
	case len(segments) == 1 && r.Code != coap.POST:
		return errorResponse(ErrMethodNotAllowed)
	case len(segments) == 1 && segments[0] == "rd":
		return s.register(ctx, r)
	case len(segments) == 1:
		return s.sent(ctx, r)
	case len(segments) != 2 || segments[0] != "rd":
		return errorResponse(ErrNotFound)
	case r.Code == coap.POST:
		return s.update(ctx, r, segments[1])
	case r.Code == coap.DELETE:
		return s.deregister(ctx, r, segments[1])
	default:
		return errorResponse(ErrMethodNotAllowed)
	}
}

// heard records contact with the device at a peer, and returns its endpoint; "" if the peer is no
// registered device.
func (s *Server) heard(peer coap.Peer) (endpoint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byPeer.Get(peer)
	if d == nil {
		return ""
	}
	s.hear(d)
	return d.endpoint
}

// sent answers a Send.
func (s *Server) sent(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
	f, ok := r.ContentFormat().Get()
	if !ok {
		return errorResponse(ErrUnsupportedFormat)
	}
	switch ContentFormat(f) {
	case FormatSenMLCBOR, FormatSenMLJSON, FormatLwM2MCBOR:
	default:
		return errorResponse(ErrUnsupportedFormat)
	}
	codec := s.codec(&session{})
	var endpoint string
	var by Identity
	s.mu.Lock()
	if d := s.table.byPeer.Get(r.Peer); d != nil {
		codec = s.codec(&session{root: d.root(), links: d.links, lwm2m: d.settings().version})
		endpoint, by = d.endpoint, d.identity()
	}
	s.mu.Unlock()
	if err := s.entitled(ctx, by, r.Identity, endpoint); err != nil {
		return s.refuse(refusedSend, r, endpoint, err)
	}
	entries, err := codec.decodePayload(ContentFormat(f), Path{}, r.Payload)
	if err != nil {
		return s.refuse(refusedSend, r, endpoint, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byPeer.Get(r.Peer)
	if d == nil {
		return errorResponse(ErrNotFound) // the device registers, and sends again
	}
	if d.activity != nil && len(d.activity.events) >= maxPendingEvents {
		return errorResponse(ErrUnavailable)
	}
	id := d.id
	return &coap.Response{Code: coap.Changed, After: func() { s.settled(id, RegistrationEvent{Kind: EventSent, Entries: entries}) }}
}

// serveDownload answers a GET with the Download that fn returns.
func (s *Server) serveDownload(ctx context.Context, r *coap.IncomingRequest, endpoint string, fn downloadFunc) *coap.Response {
	if s.config.ProveAddress && !r.AddressVerified() {
		return r.Challenge()
	}
	d := DownloadRequest{
		Path: r.Path(), Query: r.Queries(), Endpoint: endpoint,
		Identity: firstIdentity(r.Identity), Address: s.coap.RemoteAddr(r.Peer), Local: s.coap.LocalAddr(r.Peer), Transport: Transport(r.Peer.Transport),
	}
	res, err := fn(ctx, d)
	if err != nil {
		return errorResponse(err)
	}
	if res == nil {
		return errorResponse(ErrNotFound)
	}
	format := res.Format
	if format == FormatText {
		format = FormatOpaque
	}
	if accept, ok := r.AcceptFormat().Get(); ok && ContentFormat(accept) != format {
		if c, ok := res.Body.(io.Closer); ok {
			_ = c.Close()
		}
		return errorResponse(ErrNotAcceptable)
	}
	resp := &coap.Response{
		Code: coap.Content, ContentFormat: coap.FormatOf(uint16(format)), ETag: res.ETag, Body: res.Body, Size: res.Size,
	}
	peer := r.Peer // Progress must not keep r
	resp.Progress = func(end, _ int64) {
		s.heard(peer)
		if res.Progress != nil {
			res.Progress(end)
		}
	}
	return resp
}
