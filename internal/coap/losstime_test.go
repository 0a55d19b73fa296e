package coap_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// fate is a number in [0, 1) that depends on its arguments only.
func fate(seed, stream, n int) float64 {
	x := uint64(seed)<<48 ^ uint64(stream)<<40 ^ uint64(n)
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11) / (1 << 53)
}

// fates are the inputs of the oracle and the network.
type fates struct {
	seed int
	loss float64
}

func (f fates) lostUp(n int) bool    { return fate(f.seed, 1, n) < f.loss }
func (f fates) lostDown(n int) bool  { return fate(f.seed, 2, n) < f.loss }
func (f fates) jitter(n int) float64 { return fate(f.seed, 3, n) }

// timed returns the duration of our transfer. The sender of the requests retransmits.
func timed(t *testing.T, f fates, delay time.Duration, upload bool, body []byte) (took time.Duration) {
	t.Helper()
	var draws atomic.Int32
	sender := coap.Config{Transmission: coap.Transmission{Jitter: func() float64 { return f.jitter(int(draws.Add(1)) - 1) }}}
	receiver := coap.Config{
		Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return &recorder{}, nil },
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			if r.Code == coap.PUT {
				if !bytes.Equal(body, r.Sink.(*recorder).bytes()) {
					t.Error("the body was corrupted")
				}
				return &coap.Response{Code: coap.Changed}
			}
			return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(len(body)), ETag: []byte{1}}
		}),
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, receiver, sender)
		defer w.stop()
		w.net.SetLink(deviceHost, serverHost, simnet.Conditions{Delay: delay, Drop: func(p simnet.Packet) bool { return f.lostUp(p.Seq) }})
		w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Delay: delay, Drop: func(p simnet.Packet) bool { return f.lostDown(p.Seq) }})
		start := time.Now()
		var got bytes.Buffer
		req := &coap.Request{Code: coap.GET, Path: []string{"fw"}, Into: &got, Stall: time.Hour}
		if upload {
			req = &coap.Request{Code: coap.PUT, Path: []string{"5", "0", "0"}, Body: bytes.NewReader(body), Size: int64(len(body)), Stall: time.Hour}
		}
		resp, err := w.device.Do(t.Context(), w.toServer, req)
		took = time.Since(start)
		require.NoError(t, err)
		if upload {
			require.Equal(t, coap.Changed, resp.Code)
		} else {
			require.True(t, bytes.Equal(body, got.Bytes()))
		}
	})
	return took
}

// maxRatio is the maximum ratio of a transfer's duration to the oracle's.
const maxRatio = 1.1

// A transfer over a bad link takes as long as the oracle. With -v it prints the table in
// BENCHMARKS.md.
func TestLossTime(t *testing.T) {
	const delay = 50 * time.Millisecond
	body := bodyOf(1 << 20)
	var table strings.Builder
	fmt.Fprintf(&table, "\n| 1 MiB, RTT %v | loss | oracle | otago | ratio |\n|---|---|---|---|---|\n", 2*delay)
	worst := 0.0
	for _, loss := range []float64{0, 0.01, 0.05, 0.10, 0.30} {
		for _, upload := range []bool{true, false} {
			name := "pull, Block2"
			if upload {
				name = "push, Block1"
			}
			f := fates{seed: 1 + int(1000*loss), loss: loss}
			want := oracle(1024, 2*delay, f.lostUp, f.lostDown, f.jitter)
			took := timed(t, f, delay, upload, body)
			ratio := float64(took) / float64(want)
			fmt.Fprintf(&table, "| %s | %.0f %% | %.1f s | %.1f s | %.3f |\n", name, 100*loss, want.Seconds(), took.Seconds(), ratio)
			worst = math.Max(worst, ratio)
			require.LessOrEqual(t, ratio, maxRatio, "%s at %v", name, loss)
			require.GreaterOrEqual(t, ratio, 0.999, "faster than the oracle: the fates differ")
		}
	}
	t.Log(table.String())
}

// Many seeds, including bad ones, leave nothing to chance.
func TestLossTimeSeeds(t *testing.T) {
	for seed := range 40 {
		f := fates{seed: 100 + seed, loss: 0.10}
		want := oracle(20, 100*time.Millisecond, f.lostUp, f.lostDown, f.jitter)
		took := timed(t, f, 50*time.Millisecond, seed%2 == 0, bodyOf(20<<10))
		require.LessOrEqual(t, float64(took)/float64(want), maxRatio)
	}
}
