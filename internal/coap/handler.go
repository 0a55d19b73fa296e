package coap

import "context"

// Handler answers requests.
type Handler interface {
	// ServeCOAP returns the response to r, or nil for none (the request is
	// acknowledged all the same). It runs in a bounded pool, several at once,
	// also for one peer. ctx ends when the endpoint stops. r and all it holds
	// are valid until ServeCOAP returns.
	ServeCOAP(ctx context.Context, r *IncomingRequest) *Response
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, r *IncomingRequest) *Response

// ServeCOAP calls f.
func (f HandlerFunc) ServeCOAP(ctx context.Context, r *IncomingRequest) *Response { return f(ctx, r) }

// IncomingRequest is a request of a peer. Its body is whole when the handler
// sees it.
type IncomingRequest struct {
	Peer     Peer
	Identity *Identity // proven, or nil
	Code     Code
	Options  Options
	// Payload is the body, unless it went to Sink.
	Payload []byte
	// Sink is what [Config.Sinks] returned for this body, all written.
	Sink Sink
	// Size is the size of the body; for [Config.Sinks] that which the peer
	// announced (Size1), or -1.
	Size int64

	exchange *incoming
}
