package coap

import (
	"context"
	"net/netip"
	"strings"

	"github.com/otago-iot/otago/internal/dtls"
)

// Handler answers requests.
type Handler interface {
	// ServeCOAP returns the response to r, or nil for none (the request is still acknowledged). It
	// runs in a bounded pool, and concurrently, also for one peer. ctx ends when the endpoint
	// stops. r and its contents are valid until ServeCOAP returns.
	ServeCOAP(ctx context.Context, r *IncomingRequest) *Response
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, r *IncomingRequest) *Response

// ServeCOAP calls f.
func (f HandlerFunc) ServeCOAP(ctx context.Context, r *IncomingRequest) *Response { return f(ctx, r) }

// IncomingRequest is a request of a peer. Its body is complete when the handler is called.
type IncomingRequest struct {
	Peer     Peer
	Identity *dtls.Identity // proven, or nil
	Code     Code
	Options  Options
	// Payload is the body, unless it went to Sink.
	Payload []byte
	// Sink is the Sink that [Config.Sinks] returned for this body, which was written to it
	// completely.
	Sink Sink
	// Size is the size of the body. For [Config.Sinks] it is the size that the peer announced
	// (Size1), or -1.
	Size int64

	exchange *incoming
}

// Path returns the path of the request: "/rd/1", or "/" without segments. Segments are not escaped.
func (r *IncomingRequest) Path() string {
	var b strings.Builder
	for _, o := range r.Options {
		if o.ID == URIPath {
			b.WriteByte('/')
			b.Write(o.Value)
		}
	}
	if b.Len() == 0 {
		return "/"
	}
	return b.String()
}

// Segments returns the segments of the path.
func (r *IncomingRequest) Segments() []string { return Strings(r.Options, URIPath) }

// Queries returns the query options.
func (r *IncomingRequest) Queries() []string { return Strings(r.Options, URIQuery) }

// ContentFormat returns the format of the body.
func (r *IncomingRequest) ContentFormat() Format { return formatOf(r.Options, ContentFormat) }

// AcceptFormat returns the format that the peer requests.
func (r *IncomingRequest) AcceptFormat() Format { return formatOf(r.Options, Accept) }

// Observe returns the value of the Observe option: 0 register, 1 cancel.
func (r *IncomingRequest) Observe() (uint32, bool) { return Uint(r.Options, Observe) }

// Confirmable reports whether the request was a CON. On a stream it always is.
func (r *IncomingRequest) Confirmable() bool {
	in := r.exchange
	return in.a.stream() || in.p.msg.typ == confirmable
}

// LocalAddr returns the address at which the peer reached us.
func (r *IncomingRequest) LocalAddr() netip.AddrPort {
	return r.exchange.a.link.localAddr(r.exchange.a)
}
