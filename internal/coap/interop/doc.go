// Package interop holds no code. Its tests make foreign peers talk to package coap over real
// sockets, in both roles: go-coap, libcoap's example programs (Debian's libcoap3-bin) and aiocoap
// (Python). Its benchmarks compare such peers with ours.
//
// A test whose peer is not installed is skipped, or fails if CI is set. aiocoap must be on
// python3's module path, for example by PYTHONPATH:
//
//	pip install --target DIR aiocoap
//	PYTHONPATH=DIR go test ./internal/coap/interop
package interop
