// Package door has the limits of what strangers may keep a server of HTTP waiting for: how many
// connections they have, how long a body may stand still, how long a reader may take nothing, and a
// listener for TLS clients with small buffers.
package door

import "time"

// The limits. Those of http.Server that are not here are set by firmware.NewHTTPServer.
const (
	BodyIdle      = 30 * time.Second // without a byte of a request's body
	BodyDiscard   = 5 * time.Second  // for the rest of a body that nobody wants
	HandshakeTime = 10 * time.Second // for a ClientHello, and for the handshake of a client with small buffers
)
