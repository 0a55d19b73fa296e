// Package interop holds no code. Its tests have peers that we did not write talk to package coap
// over real sockets, in both roles: go-coap, libcoap's example programs (Debian's libcoap3-bin) and
// aiocoap (Python). Its benchmarks run such peers and ours side by side.
//
// A test whose peer is not installed is skipped, and fails when CI is set. aiocoap is looked for
// where python3 looks for modules; PYTHONPATH helps:
//
//	pip install --target DIR aiocoap
//	PYTHONPATH=DIR go test ./internal/coap/interop
package interop
