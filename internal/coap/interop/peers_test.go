package interop_test

import (
	"net/netip"
	"testing"
)

// peer is an implementation that we did not write.
type peer struct {
	name string
	// serve starts its server, in which a PUT creates a resource that GET returns and Observe
	// follows.
	serve func(t *testing.T) netip.AddrPort
	// put and get have its client transfer a body in blocks of a size.
	put func(t *testing.T, to netip.AddrPort, path string, body []byte, block int)
	get func(t *testing.T, from netip.AddrPort, path string, block int) []byte
	// observe has its client observe until it has seen all texts.
	observe func(t *testing.T, at netip.AddrPort, path string, texts []string)
	// blocks are the sizes that its client can be told to use.
	blocks []int
}

var others = []peer{
	{"libcoap", serveLibcoap, putLibcoap, getLibcoap, observeLibcoap, []int{16, 64, 256, 512, 1024}},
	{"aiocoap", serveAiocoap, putAiocoap, getAiocoap, observeAiocoap, []int{16, 256, 1024}},
	{"go-coap", serveGoCoAP, putGoCoAP, getGoCoAP, observeGoCoAP, []int{16, 64, 256, 512, 1024}},
}

// sizes of bodies: none, one byte, around one block, many blocks.
var sizes = []int{0, 1, 1023, 1024, 1025, 20_000}
