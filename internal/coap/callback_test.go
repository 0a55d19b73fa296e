package coap_test

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

type readerAtFunc func(p []byte, off int64) (int, error)

func (f readerAtFunc) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// echoing answers a PUT, and a GET with image.
func echoing(image []byte) coap.Config {
	return coap.Config{MaxBody: 1 << 20, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Code == coap.PUT {
			return &coap.Response{Code: coap.Changed}
		}
		return &coap.Response{Code: coap.Content, Payload: image}
	})}
}

// A callback that panics or ends its goroutine ends only its own request.
func TestCallbacksThatPanic(t *testing.T) {
	image := bodyOf(3000)
	for how, crash := range map[string]func(){
		"panics":         func() { panic("no") },
		"ends goroutine": runtime.Goexit,
	} {
		for name, r := range map[string]coap.Request{
			"Body": {Code: coap.PUT, Size: 3000, Body: readerAtFunc(func([]byte, int64) (int, error) { crash(); return 0, nil })},
			"Body, later": {Code: coap.PUT, Size: 3000, Body: readerAtFunc(func(p []byte, off int64) (int, error) {
				if off > 0 {
					crash()
				}
				return len(p), nil
			})},
			"Progress": {Code: coap.PUT, Payload: image, Progress: func(int64, int64) { crash() }},
			"Begun":    {Code: coap.GET, Into: io.Discard, Begun: func([]byte, int64) { crash() }},
			"Into":     {Code: coap.GET, Into: writerFunc(func([]byte) (int, error) { crash(); return 0, nil })},
			"Notice":   {Code: coap.GET, Into: io.Discard, Notice: func(coap.Notice) { crash() }},
		} {
			t.Run(name+" "+how, func(t *testing.T) {
				inWorld(t, echoing(image), coap.Config{}, func(t *testing.T, w *world) {
					_, end := begin(w.device, w.toServer, &r)
					synctest.Wait()
					require.Equal(t, 1, end.calls)
					require.ErrorContains(t, end.err, "callback panicked")
					resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET})
					require.NoError(t, err)
					require.Equal(t, coap.Content, resp.Code)
				})
			})
		}
		t.Run("done "+how, func(t *testing.T) {
			inWorld(t, echoing(image), coap.Config{}, func(t *testing.T, w *world) {
				var calls atomic.Int32
				w.device.Go(w.toServer, &coap.Request{Code: coap.GET}, func(*coap.Response, error) { calls.Add(1); crash() })
				synctest.Wait()
				_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET})
				require.NoError(t, err)
				require.EqualValues(t, 1, calls.Load())
			})
		})
	}
}

// While callbacks block, other requests continue, and end with the endpoint.
func TestCallbacksThatBlock(t *testing.T) {
	image := bodyOf(3000)
	inWorld(t, echoing(image), coap.Config{}, func(t *testing.T, w *world) {
		release := make(chan struct{})
		var ended atomic.Int32
		for range 100 {
			r := &coap.Request{Code: coap.PUT, Payload: image, Progress: func(int64, int64) { <-release }}
			w.device.Go(w.toServer, r, func(*coap.Response, error) { ended.Add(1) })
		}
		synctest.Wait()
		for range 100 {
			start := time.Now()
			got := make(chan []byte, 1)
			w.device.Go(w.toServer, &coap.Request{Code: coap.GET}, func(resp *coap.Response, err error) {
				if err == nil {
					got <- resp.Payload
				}
			})
			require.Equal(t, image, <-got)
			require.Less(t, elapsed(start), time.Second)
		}

		silent := &coap.Request{Code: coap.GET, Path: []string{"silent"}}
		w.net.SetDefault(simnet.Conditions{Drop: func(simnet.Packet) bool { return true }})
		var over atomic.Int32
		for range 100 {
			w.device.Go(w.toServer, silent, func(*coap.Response, error) { over.Add(1) })
		}
		require.NoError(t, w.device.Close())
		require.EqualValues(t, 100, over.Load())
		close(release)
		synctest.Wait()
		require.Zero(t, ended.Load(), "nothing is called once Close has returned")
	})
}
