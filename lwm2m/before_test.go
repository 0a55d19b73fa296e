package lwm2m_test

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestBefore checks which requests the functions see before they are sent, and in which order.
func TestBefore(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var mu sync.Mutex
		var seen []string
		log := func(s string) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s)
		}
		take := func() []string {
			mu.Lock()
			defer mu.Unlock()
			all := seen
			seen = nil
			return all
		}
		w.foreign("</5/0>,</9>", nil, func(r *coap.IncomingRequest) *coap.Response {
			log("device " + r.Path())
			return &coap.Response{Code: coap.Changed}
		})
		stop := w.server.Before(func(r lwm2m.Request) func(context.Context) error {
			log("first " + r.Operation.String())
			return func(context.Context) error {
				time.Sleep(time.Second)
				log("stored")
				return nil
			}
		})
		w.server.Before(func(r lwm2m.Request) func(context.Context) error {
			log("second " + r.Path.String())
			return nil
		})
		ctx, uri := t.Context(), lwm2m.NewPath(5, 0, 1)
		require.NoError(t, w.server.WriteValue(ctx, endpointName, uri, lwm2m.String("x")))
		require.Equal(t, []string{"first write", "stored", "second /5/0/1", "device /5/0/1"}, take())
		require.NoError(t, w.server.Execute(ctx, endpointName, lwm2m.NewPath(5, 0, 2), ""))
		require.Equal(t, []string{"first execute", "stored", "second /5/0/2", "device /5/0/2"}, take())

		stop()
		value := []lwm2m.Entry{{Path: uri, Value: lwm2m.String("x")}}
		for _, r := range []lwm2m.Request{
			{Operation: lwm2m.OpWritePartial, Path: uri, Entries: value}, {Operation: lwm2m.OpWriteComposite, Entries: value},
			{Operation: lwm2m.OpWriteStream, Path: uri}, {Operation: lwm2m.OpDelete, Path: lwm2m.NewPath(5, 0)},
			{Operation: lwm2m.OpCreate, Path: lwm2m.NewPath(9), Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(9, 0, 3), Value: lwm2m.String("x")}}},
		} {
			a := &answers{server: w.server}
			a.call(r)
			require.NoError(t, a.one(t).Err)
			require.Len(t, take(), 2, r.Operation)
		}
		// The functions do not see requests that change no object.
		for _, r := range []lwm2m.Request{
			{Operation: lwm2m.OpRead, Path: uri}, {Operation: lwm2m.OpObserve, Path: uri}, {Operation: lwm2m.OpWriteAttributes, Path: uri},
		} {
			a := &answers{server: w.server}
			a.call(r)
			a.one(t)
			require.Equal(t, []string{"device /5/0/1"}, take(), r.Operation)
		}
	})
}

// TestBeforeRefuses: when a function fails, panics or ends its goroutine, nothing is sent, and the
// next request is.
func TestBeforeRefuses(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.Changed} })
		write := func() error {
			return w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(5, 0, 2), "")
		}
		for _, test := range []struct {
			fn   func(lwm2m.Request) func(context.Context) error
			want error
		}{
			{func(lwm2m.Request) func(context.Context) error {
				return func(context.Context) error { return errEnough }
			}, errEnough},
			{func(lwm2m.Request) func(context.Context) error { panic("x") }, lwm2m.ErrInternal},
			{func(lwm2m.Request) func(context.Context) error { return func(context.Context) error { panic("x") } }, lwm2m.ErrInternal},
			{func(lwm2m.Request) func(context.Context) error {
				return func(context.Context) error { runtime.Goexit(); return nil }
			}, lwm2m.ErrInternal},
		} {
			stop := w.server.Before(test.fn)
			err := write()
			require.ErrorIs(t, err, test.want)
			require.NotErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
			require.Empty(t, d.seen())
			stop()
			require.NoError(t, write())
			require.Len(t, d.seen(), 1)
		}
	})
}

// TestBeforeHoldsThePlace blocks a function: the request keeps its place, other requests to the
// device wait behind it, and Cancel ends it although the function ignores its context.
func TestBeforeHoldsThePlace(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(0, "1") })
		hold := make(chan struct{})
		var cause error
		w.server.Before(func(lwm2m.Request) func(context.Context) error {
			return func(ctx context.Context) error {
				<-ctx.Done()
				cause = context.Cause(ctx)
				<-hold
				return nil
			}
		})
		a := &answers{server: w.server}
		write := a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(5, 0, 2)})
		a.call(lwm2m.Request{Operation: lwm2m.OpRead, Path: lwm2m.NewPath(5, 0, 3)})
		time.Sleep(50 * time.Minute)
		got, notices := a.take()
		require.Empty(t, got)
		require.Empty(t, notices)
		require.Empty(t, d.seen())

		write.Cancel(errEnough)
		got, _ = a.take()
		require.Len(t, got, 2)
		require.ErrorIs(t, got[0].Err, errEnough)
		require.NoError(t, got[1].Err)
		require.ErrorIs(t, cause, errEnough)
		close(hold)
		synctest.Wait()
		require.Equal(t, []string{"GET /5/0/3"}, d.seen())
	})
}

// TestBeforeAgainWhenTheDeviceMoves: the device registers again while a function runs. The server
// calls the function again before it sends the request to the new address.
func TestBeforeAgainWhenTheDeviceMoves(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		s := &sensor{}
		config := func(c *lwm2m.ClientConfig) { c.Objects, c.Lifetime = append(c.Objects, s), time.Hour }
		w.device(config)
		hold := make(chan struct{})
		var calls []any
		w.server.Before(func(r lwm2m.Request) func(context.Context) error {
			calls = append(calls, r.Owner)
			return func(context.Context) error { <-hold; return nil }
		})
		a := &answers{server: w.server}
		a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3303, 0, 5605), Owner: "me"})
		synctest.Wait()
		w.device(config)
		require.Empty(t, s.executed)
		close(hold)
		require.NoError(t, a.one(t).Err)
		require.Equal(t, []any{"me", "me"}, calls)
		require.Len(t, s.executed, 1)
	})
}

// TestBeforeEndsWithTheRegistration: a request ends with the registration while its function runs.
func TestBeforeEndsWithTheRegistration(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		_, stop := w.deviceStop(nil)
		time.Sleep(time.Second)
		w.server.Before(func(lwm2m.Request) func(context.Context) error {
			return func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		})
		a := &answers{server: w.server}
		a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3, 0, 4)})
		synctest.Wait()
		stop()
		require.ErrorIs(t, a.one(t).Err, lwm2m.ErrNotRegistered)
	})
}

// TestBeforeOutlastsTheDevice: a function runs until the device sleeps. Nothing is sent then, and
// the server calls the function again when the device is awake.
func TestBeforeOutlastsTheDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		s := &sensor{}
		client := w.device(func(c *lwm2m.ClientConfig) { c.Objects, c.Queue, c.Lifetime = append(c.Objects, s), true, time.Hour })
		calls := 0
		w.server.Before(func(lwm2m.Request) func(context.Context) error {
			if calls++; calls > 1 {
				return nil
			}
			return func(context.Context) error { time.Sleep(2 * time.Minute); return nil }
		})
		a := &answers{server: w.server}
		a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3303, 0, 5605)})
		time.Sleep(10 * time.Minute)
		got, notices := a.take()
		require.Empty(t, got)
		require.Empty(t, notices)
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("x")}}))
		require.NoError(t, a.one(t).Err)
		require.Equal(t, 2, calls)
		require.Len(t, s.executed, 1)
	})
}
