package coap_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// Transfers, observations and small requests end at any point: by their context, by a hang-up at
// either end, by the end of serving, or by Close, several at once. All calls return, and nothing is
// left.
func TestEndsAtAnyPoint(t *testing.T) {
	seeds := 200
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) { endAnywhere(t, rand.New(rand.NewPCG(uint64(seed), 5))) })
	}
}

func endAnywhere(t *testing.T, rng *rand.Rand) {
	image := bodyOf(10_000)
	config := coap.Config{
		Transmission: coap.Transmission{ACKTimeout: 50 * time.Millisecond},
		AckDelay:     20 * time.Millisecond,
		Sinks:        func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return &recorder{}, nil },
		Handler: coap.HandlerFunc(func(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
			if r.Path() == "/slow" {
				select {
				case <-time.After(100 * time.Millisecond):
				case <-ctx.Done():
				}
			}
			if o := r.Accept(); o != nil {
				go func() {
					for range 5 {
						select {
						case <-o.Done():
							return
						case <-time.After(30 * time.Millisecond):
							o.Notify(&coap.Response{Code: coap.Content, Payload: image[:3000]}, true)
						}
					}
				}()
			}
			return &coap.Response{Code: coap.Content, Payload: image}
		}),
	}
	w := newWorld(t, config, config)
	drops := rand.New(rand.NewPCG(rng.Uint64(), 6))
	w.net.SetDefault(simnet.Conditions{Drop: func(simnet.Packet) bool { return drops.Float64() < 0.05 }, Duplicate: 0.1, Delay: 2 * time.Millisecond, Jitter: 5 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 3 {
		for _, end := range []struct {
			e  *coap.Endpoint
			to coap.Peer
		}{{w.server, w.toDevice}, {w.device, w.toServer}} {
			work.Go(func() {
				var got bytes.Buffer
				_, _ = end.e.Do(ctx, end.to, &coap.Request{Code: coap.GET, Path: []string{"fw"}, Into: &got})
				require.True(t, bytes.HasPrefix(image, got.Bytes()))
			})
			work.Go(func() {
				_, _ = end.e.Do(ctx, end.to, &coap.Request{Code: coap.PUT, Path: []string{"5"}, Payload: image})
			})
			work.Go(func() {
				_, _ = end.e.Do(ctx, end.to, &coap.Request{Code: coap.POST, Path: []string{"slow"}})
			})
			work.Go(func() {
				o, _, err := end.e.Observe(ctx, end.to, &coap.Request{Code: coap.GET, Path: []string{"o"}}, func(*coap.Response) {})
				if err == nil && o != nil {
					pass(100 * time.Millisecond)
					_ = o.Cancel(ctx)
				}
			})
		}
	}
	for _, i := range rng.Perm(5)[:1+rng.IntN(3)] {
		after := time.Duration(rng.IntN(2000)) * time.Millisecond
		work.Go(func() {
			pass(after)
			switch i {
			case 0:
				cancel()
			case 1:
				w.device.Hangup(w.toServer)
			case 2:
				peer := w.toDevice
				peer.ID = uint64(serverAddr.Port())
				w.server.Hangup(peer)
			case 3:
				_ = w.device.Close()
			case 4:
				_ = w.server.Close()
			}
		})
	}
	work.Wait()
	cancel()
	w.stop()
	synctest.Wait()
	for _, e := range []*coap.Endpoint{w.server, w.device} {
		require.Zero(t, coap.Underway(e))
		h := coap.Holds(e)
		require.Zero(t, h.Peers+h.Uploads+h.Downloads+int(h.UploadBytes)+h.Observers, "%+v server %v", h, e == w.server)
	}
}
