package lwm2m_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

var sensorValue = lwm2m.NewPath(3303, 0, 5700)

// values collects the values of an observation, with their times since the last take.
type values struct {
	mu    sync.Mutex
	start time.Time
	all   []string
	at    []time.Duration
}

func (v *values) add(entries []lwm2m.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range entries {
		v.all = append(v.all, e.Value.String())
		v.at = append(v.at, time.Since(v.start).Round(time.Second))
	}
}

// take returns the values and times since the last call, and resets the clock.
func (v *values) take() (all []string, at []time.Duration) {
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	all, at = v.all, v.at
	v.all, v.at, v.start = nil, nil, time.Now()
	return all, at
}

func (v *values) texts() []string {
	all, _ := v.take()
	return all
}

// inSensorWorld runs f with a device that has a sensor.
func inSensorWorld(t *testing.T, f func(t *testing.T, w *world, s *sensor, change func(float64))) {
	t.Helper()
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		s := &sensor{unit: "Cel"}
		client := w.device(func(c *lwm2m.ClientConfig) {
			c.Models = sensorModels(t)
			c.Objects = append(c.Objects, s)
		})
		f(t, w, s, func(v float64) {
			s.set(v)
			client.Notify(sensorValue)
			time.Sleep(time.Second)
		})
	})
}

func TestObserve(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got values
		o, err := w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
		require.NoError(t, err)
		require.Equal(t, []string{"0"}, got.texts())
		change(1)
		change(2)
		change(2) // no change
		require.Equal(t, []string{"1", "2"}, got.texts())
		require.NoError(t, o.Err())
		require.NoError(t, o.Cancel(t.Context()))
		<-o.Done()
		require.NoError(t, o.Err())
		change(3)
		require.Empty(t, got.texts())
	})
}

func TestObservationEndsWithRegistration(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got values
		o, err := w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
		require.NoError(t, err)
		w.device(nil) // the device restarts without a De-register
		<-o.Done()
		require.ErrorIs(t, o.Err(), lwm2m.ErrNotRegistered)
		got.take()
		change(5)
		require.Empty(t, got.texts())
	})
}

func TestObserveWhatIsNotThere(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, _ func(float64)) {
		_, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3303, 1), func([]lwm2m.Entry) {})
		require.ErrorIs(t, err, lwm2m.ErrNotFound)
		_, err = w.server.Observe(t.Context(), "nobody", sensorValue, func([]lwm2m.Entry) {})
		require.ErrorIs(t, err, lwm2m.ErrNotRegistered)
	})
}

func TestObserveComposite(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, s *sensor, change func(float64)) {
		var got values
		paths := []lwm2m.Path{sensorValue, lwm2m.NewPath(3, 0, 3)}
		o, err := w.server.ObserveComposite(t.Context(), endpointName, paths, got.add)
		require.NoError(t, err)
		require.Equal(t, []string{"0", "1.0.0"}, sorted(got.texts()))
		change(7)
		require.Equal(t, []string{"1.0.0", "7"}, sorted(got.texts()))
		require.NoError(t, o.Cancel(t.Context()))
	})
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

// TestLossyNotifications loses, repeats and reorders notifications: the last value arrives, and no
// value after a newer one.
func TestLossyNotifications(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		w.net.SetDefault(lossy)
		var mu sync.Mutex
		var got []float64
		_, err := w.server.Observe(t.Context(), endpointName, sensorValue, func(entries []lwm2m.Entry) {
			mu.Lock()
			defer mu.Unlock()
			v, _ := entries[0].Value.Float64()
			got = append(got, v)
		})
		require.NoError(t, err)
		for i := range 50 {
			change(float64(i + 1))
		}
		time.Sleep(10 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		require.True(t, slices.IsSorted(got), got)
		require.Equal(t, 50.0, got[len(got)-1])
	})
}

// TestSlowObserver: a function of an observation blocks. It does not delay the network, and the
// newest value arrives in the end.
func TestSlowObserver(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		release := make(chan struct{})
		var got values
		o, err := w.server.Observe(t.Context(), endpointName, sensorValue, func(entries []lwm2m.Entry) {
			<-release
			got.add(entries)
		})
		require.NoError(t, err)
		for i := range 100 {
			change(float64(i + 1))
		}
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		close(release)
		all := got.texts()
		require.Less(t, len(all), 20)
		require.Equal(t, "100", all[len(all)-1])
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = o.Cancel(ctx)
		<-o.Done()
	})
}

// TestObserversAreForgottenWithRegister: the server restarts without its state. The device
// registers again on the same association, and sends no notifications for the old observation.
func TestObserversAreForgottenWithRegister(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		s := &sensor{}
		client := w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, s) })
		_, err := w.server.Observe(t.Context(), endpointName, sensorValue, func([]lwm2m.Entry) {})
		require.NoError(t, err)
		r, _ := w.server.Registration(endpointName)
		w.stop()
		w.start(lwm2m.ServerConfig{})
		time.Sleep(5 * time.Minute)
		again, _ := w.server.Registration(endpointName)
		require.Equal(t, r.Address, again.Address)
		packets := 0
		w.net.Tap(func(p simnet.Packet) { packets++ })
		s.set(1)
		client.Notify(sensorValue)
		time.Sleep(time.Second)
		require.Zero(t, packets)
	})
}

// TestAddressTakenByAnotherDevice: the requests and observations of the device that had the address
// end.
func TestAddressTakenByAnotherDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign("</5/0>", nil, func(r *coap.IncomingRequest) *coap.Response {
			if r.Accept() == nil {
				time.Sleep(20 * time.Second)
			}
			return content(0, "0")
		})
		o, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3), func([]lwm2m.Entry) {})
		require.NoError(t, err)
		errs := make(chan error, 2)
		for range 2 { // one sent, one behind it
			go func() {
				_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3))
				errs <- err
			}()
		}
		time.Sleep(5 * time.Second)
		_, err = d.endpoint.Do(t.Context(), d.server, &coap.Request{
			Code: coap.POST, Path: []string{"rd"}, Queries: []string{"ep=other"}, Payload: []byte("</3/0>"),
			ContentFormat: coap.FormatOf(40),
		})
		require.NoError(t, err)
		<-o.Done()
		require.ErrorIs(t, o.Err(), lwm2m.ErrUnreachable)
		require.ErrorIs(t, <-errs, lwm2m.ErrUnreachable)
		require.ErrorIs(t, <-errs, lwm2m.ErrUnreachable)
		time.Sleep(time.Minute) // the device's answer is on its way
	})
}

// TestObserversDoNotPileUp repeats observations and restarts more often than a device may have
// observers.
func TestObserversDoNotPileUp(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		for range 70 {
			_, err := w.server.Observe(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3), func([]lwm2m.Entry) {})
			require.NoError(t, err)
			w.stop()
			w.start(lwm2m.ServerConfig{})
			time.Sleep(5 * time.Minute)
		}
	})
}
