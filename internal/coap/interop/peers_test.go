package interop_test

import (
	"net/netip"
	"testing"
)

// peer is a foreign implementation.
type peer struct {
	name string
	// serve starts the peer's server, on which a PUT creates a resource for GET and Observe.
	serve func(t *testing.T) netip.AddrPort
	// put and get make the peer's client transfer a body in blocks of a size.
	put func(t *testing.T, to netip.AddrPort, path string, body []byte, block int)
	get func(t *testing.T, from netip.AddrPort, path string, block int) []byte
	// observe makes the peer's client observe until it has received all texts.
	observe func(t *testing.T, at netip.AddrPort, path string, texts []string)
	// blocks are the block sizes that the peer's client can use.
	blocks []int
}

var others = []peer{
	{"libcoap", serveLibcoap, putLibcoap, getLibcoap, observeLibcoap, []int{16, 64, 256, 512, 1024}},
	{"aiocoap", serveAiocoap, putAiocoap, getAiocoap, observeAiocoap, []int{16, 256, 1024}},
	{"go-coap", serveGoCoAP, putGoCoAP, getGoCoAP, observeGoCoAP, []int{16, 64, 256, 512, 1024}},
}

// sizes of bodies: none, one byte, around one block, many blocks.
var sizes = []int{0, 1, 1023, 1024, 1025, 20_000}
