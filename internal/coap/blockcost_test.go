package coap_test

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// maxBlockBytes is how much a block may allocate at both ends together. Most of it is the growing
// table of duplicates: the receiver of a push remembers for 247 s how it answered each block.
const maxBlockBytes = 256

// A block leaves almost no garbage, neither here nor at the peer.
func TestBytesPerBlock(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector has pools drop things")
	}
	const size = 1 << 20
	body := bodyOf(size)
	server := coap.New(coap.Config{
		Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return discards{}, nil },
		Handler: coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
			if r.Code == coap.PUT {
				return &coap.Response{Code: coap.Changed}
			}
			return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: size, ETag: []byte{1}}
		}),
	})
	device, to := dial(t, serveUDP(t, server, "127.0.0.1:0", coap.ListenConfig{}), coap.Config{})
	for name, r := range map[string]*coap.Request{
		"push": {Code: coap.PUT, Path: []string{"5", "0", "0"}, Body: bytes.NewReader(body), Size: size},
		"pull": {Code: coap.GET, Path: []string{"image"}, Into: io.Discard},
	} {
		t.Run(name, func(t *testing.T) {
			transfer := func() {
				_, err := device.Do(limit(t), to, r)
				require.NoError(t, err)
			}
			transfer() // fills the pools
			const transfers = 8
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range transfers {
				transfer()
			}
			runtime.ReadMemStats(&after)
			each := (after.TotalAlloc - before.TotalAlloc) / (transfers * size / 1024)
			t.Logf("%d bytes", each)
			require.LessOrEqual(t, each, uint64(maxBlockBytes))
		})
	}
}

// discards is a Sink that drops everything.
type discards struct{}

func (discards) Write(p []byte) (int, error) { return len(p), nil }
func (discards) Abort(error)                 {}
