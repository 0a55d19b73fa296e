package lwm2m_test

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestCallsFromWithin: functions of the program call the client that calls them. Nothing deadlocks,
// and a function that reports a change at each call is not called without pause.
func TestCallsFromWithin(t *testing.T) {
	value := lwm2m.NewPath(3303, 0, 5700)
	calls := map[string]func(ctx context.Context, c *lwm2m.Client) error{
		"Notify": func(_ context.Context, c *lwm2m.Client) error {
			c.Notify(value, lwm2m.NewPath(3303), lwm2m.Path{})
			return nil
		},
		"Send": func(ctx context.Context, c *lwm2m.Client) error {
			return c.Send(ctx, []lwm2m.Entry{{Path: value, Value: lwm2m.Float(1)}})
		},
		"Fetch": func(ctx context.Context, c *lwm2m.Client) error {
			_, err := c.Fetch(ctx, "coap://"+serverAddress+"/x", io.Discard, lwm2m.FetchConfig{})
			require.ErrorIs(t, err, lwm2m.ErrNotFound)
			return nil
		},
		"WaitRegistered": func(ctx context.Context, c *lwm2m.Client) error { return c.WaitRegistered(ctx) },
		"Run": func(ctx context.Context, c *lwm2m.Client) error {
			require.ErrorIs(t, c.Run(ctx), lwm2m.ErrClosed)
			return nil
		},
	}
	for _, method := range []string{
		"Instances", "Version", "FollowVersion", "Read", "Write", "Execute", "AfterResponse", "OpenWrite", "Sink.Write", "Sink.Commit", "Sink.Abort",
	} {
		for name, call := range calls {
			t.Run(method+" calls "+name, func(t *testing.T) {
				inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
					var within atomic.Pointer[lwm2m.Client]
					var n atomic.Int32
					o := &wild{method: method}
					o.do = func(context.Context) {
						ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
						defer cancel()
						client := within.Load()
						if client == nil {
							return // NewClient has not returned
						}
						n.Add(1)
						require.NoError(t, call(ctx, client))
					}
					client, end := w.wildDevice(o, io.Discard, nil)
					within.Store(client)
					_, err := w.server.Observe(t.Context(), endpointName, value, func([]lwm2m.Entry) {})
					require.NoError(t, err)
					require.NoError(t, w.provoke(t.Context(), method))
					client.Notify(value)
					time.Sleep(10 * time.Second)
					require.Positive(t, n.Load())
					require.Less(t, n.Load(), int32(10_000)) // a few for each evaluation, at most 100 evaluations in a second
					require.True(t, client.Registered())
					require.NoError(t, end())
				})
			})
		}
	}
}
