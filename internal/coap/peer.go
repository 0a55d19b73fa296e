package coap

import "net/netip"

// Transport is one of the ways a peer is reached.
type Transport uint8

// Transports, by the URI schemes coap, coaps, coap+tcp and coaps+tcp.
const (
	UDP Transport = iota + 1
	DTLS
	TCP
	TLS
)

// String returns the URI scheme of t.
func (t Transport) String() string {
	switch t {
	case UDP:
		return "coap"
	case DTLS:
		return "coaps"
	case TCP:
		return "coap+tcp"
	case TLS:
		return "coaps+tcp"
	}
	return "unknown"
}

// Reliable reports whether t is a stream (RFC 8323).
func (t Transport) Reliable() bool { return t == TCP || t == TLS }

// Peer names an association with another endpoint. It is comparable and small,
// and holding one keeps nothing alive.
//
// A UDP peer is an address: a Peer that was stored can be used after a restart
// of the process. The other transports have associations that end: a Peer of
// theirs is good until [Config.OnClosed] names it.
type Peer struct {
	Transport Transport
	// Addr is the address of the peer: for UDP its name, for the other
	// transports the address when the association began (for the present one,
	// see [Endpoint.RemoteAddr]).
	Addr netip.AddrPort
	// ID tells associations apart: for UDP the local port through which the
	// peer is reached (0: any), for the others a number that is never used
	// again in this process.
	ID uint64
}
