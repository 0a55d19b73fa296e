package coap

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Endpoint sends and answers CoAP requests on any number of sockets.
type Endpoint struct {
	cfg Config
}

type incoming struct{}

var errNotYet = errors.New("coap: not implemented yet")

// New returns an endpoint. It starts nothing.
func New(cfg Config) *Endpoint { return &Endpoint{cfg: cfg} }

// ServePacket reads datagrams from conn, which it closes, until ctx ends;
// then lets work in flight finish for [Config.Drain] and returns nil. Several
// sockets may be served at once.
func (e *Endpoint) ServePacket(ctx context.Context, conn net.PacketConn) error { return errNotYet }

// Dial returns a peer that is reached through a socket of its own. Requests
// that arrive on it go to the same Handler. [Endpoint.Hangup] ends it.
func (e *Endpoint) Dial(ctx context.Context, t Transport, addr string) (Peer, error) {
	return Peer{}, errNotYet
}

// DialPacket is Dial for UDP over a given socket, which the endpoint owns from
// then on.
func (e *Endpoint) DialPacket(conn net.PacketConn, addr netip.AddrPort) (Peer, error) {
	return Peer{}, errNotYet
}

// Hangup ends the association, and closes the socket if it was dialled.
func (e *Endpoint) Hangup(p Peer) {}

// Close ends everything at once.
func (e *Endpoint) Close() error { return nil }

// Do sends a request and returns the response, whatever its code. Bodies of
// both go block-wise where they must. Errors are *[ExchangeError].
func (e *Endpoint) Do(ctx context.Context, p Peer, r *Request) (*Response, error) {
	return nil, errNotYet
}

// Identity returns what p has proven; nil for nothing.
func (e *Endpoint) Identity(p Peer) *Identity { return nil }

// LocalAddr returns the local address through which p is reached, also when
// the socket is bound to the wildcard.
func (e *Endpoint) LocalAddr(p Peer) netip.AddrPort { return netip.AddrPort{} }

// RemoteAddr returns the address at which p was last heard.
func (e *Endpoint) RemoteAddr(p Peer) netip.AddrPort { return p.Addr }

// Observe registers fn for the notifications of a resource (RFC 7641) and
// returns the first response. The observation is nil when the peer answered
// without observing. fn is called for one notification after the other, in
// the order of their freshness; older ones are left out. The last call, with
// nil or with a response that is not a success, says that the observation has
// ended other than by Cancel.
func (e *Endpoint) Observe(ctx context.Context, p Peer, r *Request, fn func(*Response)) (*Observation, *Response, error) {
	return nil, nil, errNotYet
}

// Observation is a running observation at a peer.
type Observation struct{}

// Forget ends the observation here: the next notification is rejected with a
// Reset, which ends it at the peer.
func (o *Observation) Forget() {}

// Cancel ends the observation with a request (Observe: 1).
func (o *Observation) Cancel(ctx context.Context) error { return errNotYet }

// Observer is a peer that observes a resource here.
type Observer struct{}

// Accept turns r into an observation if it asks for one (Observe: 0) and the
// peer's bound allows it; else it returns nil. The response to r must then be
// a success, else the observation ends.
func (r *IncomingRequest) Accept() *Observer { return nil }

// Notify sends a notification. Of those that wait for an acknowledgement to
// come, only the newest is kept.
func (o *Observer) Notify(resp *Response, confirmable bool) {}

// Done is closed when the observation has ended.
func (o *Observer) Done() <-chan struct{} { return nil }

// Path returns the path of the request: "/rd/1", or "/" without segments.
// Segments are not escaped.
func (r *IncomingRequest) Path() string { return "" }

// Segments returns the segments of the path.
func (r *IncomingRequest) Segments() []string { return nil }

// Queries returns the query options.
func (r *IncomingRequest) Queries() []string { return nil }

// ContentFormat returns the format of the body.
func (r *IncomingRequest) ContentFormat() Format { return Format{} }

// AcceptFormat returns the format that the peer asks for.
func (r *IncomingRequest) AcceptFormat() Format { return Format{} }

// Confirmable reports whether the request was a CON (always on a stream).
func (r *IncomingRequest) Confirmable() bool { return true }

// Observe returns the value of the Observe option: 0 register, 1 cancel.
func (r *IncomingRequest) Observe() (uint32, bool) { return 0, false }

// LocalAddr is the address at which the peer reached us.
func (r *IncomingRequest) LocalAddr() netip.AddrPort { return netip.AddrPort{} }

// AppendUint returns opts with an option whose value is an unsigned integer.
func AppendUint(opts Options, id OptionID, v uint32) Options { return opts }

// AppendString returns opts with an option whose value is s.
func AppendString(opts Options, id OptionID, s string) Options { return opts }

// Uint returns the value of the first option id.
func Uint(opts Options, id OptionID) (uint32, bool) { return 0, false }
