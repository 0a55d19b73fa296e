// Package door limits what clients of an HTTP server may occupy: the number of connections, the
// wait for a body, and the wait for a client that does not read. It also has a listener for TLS
// clients with small buffers.
package door

import "time"

// The limits that http.Server lacks; firmware.NewHTTPServer sets the others.
const (
	BodyIdle      = 30 * time.Second // without a byte of a request's body
	BodyDiscard   = 5 * time.Second  // for a body that the handler does not read
	HandshakeTime = 10 * time.Second // for a ClientHello, and for the handshake of a client with small buffers
)
