package coap

import (
	"errors"
	"fmt"
)

// Categories of failure, for errors.Is. Those of a request come wrapped in an *[ExchangeError].
var (
	// ErrTimeout: the peer did not answer within the limit.
	ErrTimeout = errors.New("coap: timeout")
	// ErrReset: the peer rejected the message with a Reset.
	ErrReset = errors.New("coap: reset by peer")
	// ErrPeerGone: the association ended.
	ErrPeerGone = errors.New("coap: association ended")
	// ErrNoPeer: there is no such association, or no socket to reach it.
	ErrNoPeer = errors.New("coap: no such peer")
	// ErrETagChanged: the representation changed in the middle of a download.
	ErrETagChanged = errors.New("coap: representation changed during transfer")
	// ErrTooLarge: a body exceeds its limit, or block numbers cannot reach its end.
	ErrTooLarge = errors.New("coap: body too large")
	// ErrProtocol: the peer broke the protocol in a way that ends the exchange.
	ErrProtocol = errors.New("coap: protocol violation")
	// ErrBusy: too much is queued for the peer.
	ErrBusy = errors.New("coap: too many requests to peer")
	// ErrClosed: the endpoint is closed.
	ErrClosed = errors.New("coap: endpoint closed")

	// ErrDeliveryUnknown matches every failure of a request that was sent and not refused, so that
	// the peer may have carried it out. It matches in addition to the category above or the error
	// of the context.
	ErrDeliveryUnknown = errors.New("coap: request may have been carried out")
)

// ExchangeError says how far a request came before it failed.
type ExchangeError struct {
	// Peer is the peer of the request.
	Peer Peer
	// Sent is true once a datagram may have left this host.
	Sent bool
	// Acknowledged is true if the peer has acknowledged the request, or a block of it, but not sent
	// the final response.
	Acknowledged bool
	// Done counts the bytes of the body that were acknowledged (upload) or written in order
	// (download). A transfer can continue there.
	Done int64
	// ETag is the entity-tag of the download, if known.
	ETag []byte
	// Err is the category or the error of the context, the Body or the Writer.
	Err error
}

// Error implements error.
func (e *ExchangeError) Error() string {
	switch {
	case e.Acknowledged:
		return fmt.Sprintf("coap: request acknowledged by %v: %v", e.Peer.Addr, e.Err)
	case e.Sent:
		return fmt.Sprintf("coap: request sent to %v: %v", e.Peer.Addr, e.Err)
	}
	return fmt.Sprintf("coap: request not sent to %v: %v", e.Peer.Addr, e.Err)
}

// Unwrap returns the cause.
func (e *ExchangeError) Unwrap() error { return e.Err }

// Is reports ErrDeliveryUnknown for a request that may have been carried out.
func (e *ExchangeError) Is(target error) bool {
	return target == ErrDeliveryUnknown && e.Sent && !errors.Is(e.Err, ErrReset)
}

// StatusError is an error with the code of the response to it, for instance from [Sink.Write].
type StatusError struct {
	Code       Code
	Diagnostic string
}

// Error implements error.
func (e *StatusError) Error() string {
	return fmt.Sprintf("coap: %d.%02d %s", e.Code>>5, e.Code&31, e.Diagnostic)
}
