package coap_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// sizes returns sizes around multiples of n.
func sizes(n int) []int { return []int{0, 1, n - 1, n, n + 1, 2*n - 1, 2 * n, 2*n + 1, 5 * n} }

// push uploads body to a peer with blocks of preferred and granted size.
func push(t *testing.T, body []byte, preferred, granted int, conditions simnet.Conditions) {
	t.Helper()
	var got []byte
	sink := &recorder{}
	receiver := coap.Config{
		BlockSize: granted,
		Sinks: func(r *coap.IncomingRequest) (coap.Sink, *coap.Response) {
			if r.Size != int64(len(body)) {
				t.Errorf("announced %d bytes, not %d", r.Size, len(body))
			}
			return sink, nil
		},
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			if r.Sink != nil {
				got = sink.bytes()
			} else {
				got = bytes.Clone(r.Payload)
			}
			return &coap.Response{Code: coap.Changed}
		}),
	}
	inWorld(t, coap.Config{}, receiver, func(t *testing.T, w *world) {
		w.net.SetDefault(conditions)
		var last int64
		resp, err := w.server.Do(t.Context(), w.toDevice, &coap.Request{
			Code:          coap.PUT,
			Path:          []string{"5", "0", "0"},
			ContentFormat: coap.FormatOf(42),
			Body:          bytes.NewReader(body),
			Size:          int64(len(body)),
			BlockSize:     preferred,
			Progress:      func(done, total int64) { last = done },
		})
		require.NoError(t, err)
		require.Equal(t, coap.Changed, resp.Code)
		require.True(t, bytes.Equal(body, got), "%d of %d bytes", len(got), len(body))
		if len(body) > preferred {
			require.EqualValues(t, len(body), last)
		}
		require.NoError(t, sink.abortedWith())
	})
}

// pull downloads body from a peer in blocks of preferred and granted size.
func pull(t *testing.T, body []byte, preferred, granted int, conditions simnet.Conditions) {
	t.Helper()
	sender := coap.Config{
		BlockSize: granted,
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			return &coap.Response{
				Code: coap.Content, ContentFormat: coap.FormatOf(42), ETag: []byte("12345678"),
				Body: bytes.NewReader(body), Size: int64(len(body)),
			}
		}),
	}
	inWorld(t, sender, coap.Config{}, func(t *testing.T, w *world) {
		w.net.SetDefault(conditions)
		var got bytes.Buffer
		resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{
			Code:      coap.GET,
			Path:      []string{"fw", "token"},
			BlockSize: preferred,
			Into:      &got,
		})
		require.NoError(t, err)
		require.Equal(t, coap.Content, resp.Code)
		require.Equal(t, "12345678", string(resp.ETag))
		require.EqualValues(t, len(body), resp.Size)
		require.True(t, bytes.Equal(body, got.Bytes()), "%d of %d bytes", got.Len(), len(body))
	})
}

func TestTransferSizes(t *testing.T) {
	for szx := range 7 {
		size := 16 << szx
		for _, n := range sizes(size) {
			t.Run(fmt.Sprintf("%d in %d", n, size), func(t *testing.T) {
				push(t, bodyOf(n), size, 1024, simnet.Conditions{})
				pull(t, bodyOf(n), size, 1024, simnet.Conditions{})
			})
		}
	}
}

func TestTransferNegotiatedSize(t *testing.T) {
	for preferred := range 7 {
		for granted := range preferred {
			t.Run(fmt.Sprintf("%d to %d", 16<<preferred, 16<<granted), func(t *testing.T) {
				body := bodyOf(5*(16<<preferred) + 7)
				push(t, body, 16<<preferred, 16<<granted, simnet.Conditions{})
				pull(t, body, 16<<preferred, 16<<granted, simnet.Conditions{})
			})
		}
	}
}

func TestTransferLoss(t *testing.T) {
	for _, loss := range []float64{0.01, 0.05, 0.10, 0.30} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			n := 200 << 10
			if loss > 0.2 {
				n = 20 << 10
			}
			if testing.Short() {
				n /= 10
			}
			c := simnet.Conditions{
				Loss: loss, Duplicate: 0.1, Reorder: 0.1,
				Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond,
			}
			push(t, bodyOf(n), 1024, 1024, c)
			pull(t, bodyOf(n), 1024, 1024, c)
		})
	}
}

// TestTransferLossSizes transfers over a bad link in every block size, also lowered by the peer.
func TestTransferLossSizes(t *testing.T) {
	c := simnet.Conditions{
		Loss: 0.1, Duplicate: 0.1, Reorder: 0.2,
		Delay: 50 * time.Millisecond, Jitter: 50 * time.Millisecond,
	}
	for szx := range 7 {
		size := 16 << szx
		for _, n := range sizes(size) {
			push(t, bodyOf(n), size, 1024, c)
			pull(t, bodyOf(n), size, 1024, c)
		}
		push(t, bodyOf(20*size+1), 1024, size, c)
		pull(t, bodyOf(20*size+1), 1024, size, c)
	}
}

func TestPeerGoneDuringPull(t *testing.T) {
	body := bodyOf(100 << 10)
	sender := coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(len(body)), ETag: []byte{1, 2}}
	})}
	tests := []struct {
		name     string
		answers  int
		stall    time.Duration
		min, max time.Duration
	}{
		{"from the first", 0, 0, 60 * time.Second, 93 * time.Second}, // one round
		{"in the middle", 20, 0, 300 * time.Second, 393 * time.Second},
		{"in the middle, with a limit", 20, 2 * time.Minute, 120 * time.Second, 213 * time.Second},
		{"in the middle, one round", 20, -1, 60 * time.Second, 93 * time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, sender, coap.Config{}, func(t *testing.T, w *world) {
				w.net.SetLink(serverHost, deviceHost, simnet.Conditions{Drop: func(p simnet.Packet) bool { return p.Seq >= test.answers }})
				start := time.Now()
				var got bytes.Buffer
				_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Into: &got, Stall: test.stall})
				require.ErrorIs(t, err, coap.ErrTimeout)
				require.GreaterOrEqual(t, elapsed(start), test.min)
				require.LessOrEqual(t, elapsed(start), test.max)
				failed, ok := errors.AsType[*coap.ExchangeError](err)
				require.True(t, ok)
				require.EqualValues(t, test.answers*1024, failed.Done)
				require.True(t, bytes.Equal(body[:failed.Done], got.Bytes()))
				if test.answers == 0 {
					return
				}
				require.Equal(t, []byte{1, 2}, failed.ETag)

				// The transfer continues where it failed.
				w.net.SetLink(serverHost, deviceHost, simnet.Conditions{})
				resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Into: &got, Offset: failed.Done, ETag: failed.ETag})
				require.NoError(t, err)
				require.Equal(t, coap.Content, resp.Code)
				require.True(t, bytes.Equal(body, got.Bytes()))
			})
		})
	}
}

func TestPeerGone(t *testing.T) {
	body := bodyOf(100 << 10)
	receiver := coap.Config{
		MaxBody: 1 << 20,
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Changed} }),
	}
	inWorld(t, coap.Config{}, receiver, func(t *testing.T, w *world) {
		w.net.SetDefault(simnet.Conditions{Delay: 100 * time.Millisecond, Drop: func(p simnet.Packet) bool { return p.Seq >= 50 }})
		start := time.Now()
		_, err := w.server.Do(t.Context(), w.toDevice, &coap.Request{
			Code: coap.PUT, Path: []string{"5", "0", "0"}, Body: bytes.NewReader(body), Size: int64(len(body)),
			Stall: 60 * time.Second,
		})
		require.ErrorIs(t, err, coap.ErrTimeout)
		require.ErrorIs(t, err, coap.ErrDeliveryUnknown)
		failed, ok := errors.AsType[*coap.ExchangeError](err)
		require.True(t, ok)
		require.EqualValues(t, 50*1024, failed.Done)
		require.True(t, failed.Acknowledged)
		require.Less(t, elapsed(start), 10*time.Second+(60+93)*time.Second)
	})
}
