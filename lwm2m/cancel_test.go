package lwm2m_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

var errEnough = errors.New("enough")

// TestCancel cancels requests that wait for a sleeping device, that wait behind another, and that
// have been sent.
func TestCancel(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client := w.device(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, time.Hour })
		a := &answers{server: w.server}
		time.Sleep(2 * time.Minute)
		asleep := a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3, 0, 4)})
		asleep.Cancel(errEnough)
		err := a.one(t).Err
		require.ErrorIs(t, err, errEnough)
		require.NotErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		asleep.Cancel(nil) // without effect
		got, _ := a.take()
		require.Empty(t, got)
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("x")}}))

		w.cut(true)
		first := a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3, 0, 4)})
		behind := a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3, 0, 4)})
		time.Sleep(3 * time.Second)
		_, notices := a.take()
		require.Contains(t, notices, lwm2m.NoticeSent)
		behind.Cancel(nil)
		err = a.one(t).Err
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		first.Cancel(errEnough)
		packets := 0
		w.net.Tap(func(simnet.Packet) { packets++ })
		err = a.one(t).Err
		require.ErrorIs(t, err, errEnough)
		require.ErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		time.Sleep(10 * time.Minute)
		require.Zero(t, packets)
		w.cut(false)
	})
}

// TestCancelAtOnce cancels requests at about the moment of sending: each ends once, and nothing
// remains that would hold back the next one.
func TestCancelAtOnce(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(simnetDelay(time.Millisecond))
		w.device(nil)
		a := &answers{server: w.server}
		for range 200 {
			var group sync.WaitGroup
			for _, op := range []lwm2m.Operation{lwm2m.OpRead, lwm2m.OpObserve, lwm2m.OpRead} {
				c := a.call(lwm2m.Request{Operation: op, Path: firmwareVersion})
				group.Go(func() { c.Cancel(errEnough) })
			}
			group.Wait()
			time.Sleep(time.Second)
			got, _ := a.take()
			require.Len(t, got, 3)
			for _, answer := range got {
				if answer.Err != nil {
					require.ErrorIs(t, answer.Err, errEnough)
				}
			}
		}
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

// TestDrop ends observations without waiting for the device.
func TestDrop(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got values
		ended := make(chan error, 2)
		for _, done := range []func(error){func(err error) { ended <- err }, nil} {
			o, err := w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
			require.NoError(t, err)
			got.take()
			o.Drop(done)
			<-o.Done()
			require.NoError(t, o.Err())
			if done != nil {
				require.NoError(t, <-ended)
				synctest.Wait()
				require.Empty(t, ended, "it is called once")
				o.Drop(done) // it has ended already
				require.NoError(t, <-ended)
			}
			change(1)
			change(2)
			require.Empty(t, got.texts())
		}
	})
}

// TestDropTellsTheDevice checks which requests Drop sends to the device.
func TestDropTellsTheDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign("</5/0>", nil, func(r *coap.IncomingRequest) *coap.Response {
			r.Accept()
			return content(0, "0")
		})
		o, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3), func([]lwm2m.Entry) {})
		require.NoError(t, err)
		d.seen()
		o.Drop(nil)
		synctest.Wait()
		require.Equal(t, []string{"GET /5/0/3"}, d.seen())
	})
}
