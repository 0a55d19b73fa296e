package lwm2m_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestQueueMode lets a device sleep: the server sends to it only in the 93 s after each of its
// messages.
func TestQueueMode(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client := w.device(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, time.Hour })
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventRegistered}, w.events.kinds())

		time.Sleep(92 * time.Second)
		require.Empty(t, w.events.kinds())
		require.Equal(t, "1.0.0", w.read("/3/0/3")) // renews the window
		time.Sleep(92 * time.Second)
		require.Empty(t, w.events.kinds())
		time.Sleep(2 * time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventAsleep}, w.events.kinds())

		_, err := w.server.Do(t.Context(), lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0, 3), NoWait: true,
		})
		require.ErrorIs(t, err, lwm2m.ErrAsleep)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = w.server.Read(ctx, endpointName, lwm2m.NewPath(3, 0, 3))
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// The server sends waiting requests after any message of the device.
		start := time.Now()
		got := make(chan string, 2)
		for _, path := range []lwm2m.Path{lwm2m.NewPath(3, 0, 3), lwm2m.NewPath(3, 0, 0)} {
			go func() {
				entries, err := w.server.Read(t.Context(), endpointName, path)
				if err != nil {
					got <- err.Error()
					return
				}
				got <- entries[0].Value.String()
			}()
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		require.Empty(t, got)
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String("x")}}))
		require.ElementsMatch(t, []string{"1.0.0", "Otago"}, []string{<-got, <-got}) // their order at the device: see TestOrderOfWaiting
		require.Less(t, time.Since(start), 11*time.Minute)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventSent, lwm2m.EventAwake}, w.events.kinds())
	})
}

// TestQueueModeTimeout loses requests while the device should listen: the server repeats a read
// when the device is back, but not a write.
func TestQueueModeTimeout(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, 10*time.Minute })
		w.events.kinds()
		w.cut(true)
		err := w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(3, 0, 4), "")
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		require.ErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventAsleep}, w.events.kinds())

		got := make(chan error, 1)
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			got <- err
		}()
		time.Sleep(time.Minute)
		w.cut(false)
		require.NoError(t, <-got) // with the next Update
	})
}

func TestTimeoutOfReadIsHarmless(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
		w.cut(true)
		_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		require.NotErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
	})
}

// TestRequestsFollowTheDevice restarts a device at a new port while requests to the old one are
// under way.
func TestRequestsFollowTheDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
		w.cut(true)
		read, write := make(chan error, 1), make(chan error, 1)
		go func() {
			write <- w.server.WriteValue(t.Context(), endpointName, lwm2m.NewPath(1, 0, 1), lwm2m.Integer(900))
		}()
		synctest.Wait()
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			read <- err
		}()
		time.Sleep(5 * time.Second)
		w.cut(false)
		start := time.Now()
		w.net.Partition(serverIP, deviceIP, false)
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
		err := <-write
		if err != nil { // it may also have been retransmitted to the old process in time
			require.ErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		}
		require.NoError(t, <-read)
		require.Less(t, time.Since(start), 10*time.Second)
	})
}

// TestLostRegistrationFailsRequests: requests that wait for a device end with its registration.
func TestLostRegistrationFailsRequests(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client, stop := w.deviceStop(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, time.Hour })
		require.NoError(t, client.WaitRegistered(t.Context()))
		time.Sleep(2 * time.Minute)
		errs := make(chan error, 1)
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			errs <- err
		}()
		synctest.Wait()
		w.cut(true)
		time.Sleep(2 * time.Hour)
		require.ErrorIs(t, <-errs, lwm2m.ErrNotRegistered)
		stop()
	})
}

// TestReadInFlightFollowsTheDevice: a read is under way when the device restarts. The server
// repeats it at the new address, long before the old one times out.
func TestReadInFlightFollowsTheDevice(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
		w.cut(true)
		read := make(chan error, 1)
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			read <- err
		}()
		time.Sleep(20 * time.Second)
		start := time.Now()
		w.device(func(c *lwm2m.ClientConfig) {
			c.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.3:0") }
		})
		require.NoError(t, <-read)
		require.Less(t, time.Since(start), time.Second)
	})
}

// TestReadInFlightWaitsForSleeper loses a read to a device that should listen: the server repeats
// it after the next message of the device.
func TestReadInFlightWaitsForSleeper(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, 10*time.Minute })
		w.cut(true)
		read := make(chan error, 1)
		go func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			read <- err
		}()
		time.Sleep(3 * time.Minute)
		require.Empty(t, read)
		w.cut(false)
		require.NoError(t, <-read)
	})
}

// TestAttributesArrive: a client sends its attributes with each Register, and the server gives them
// to the program.
func TestAttributesArrive(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{AwakeTimeOf: func(r lwm2m.Registration) time.Duration {
		if model, _ := r.Attribute("model"); model == "a&b" {
			return 10 * time.Second
		}
		return 0
	}}, func(t *testing.T, w *world) {
		w.device(func(c *lwm2m.ClientConfig) {
			c.Queue, c.Lifetime = true, time.Hour
			c.Attributes = map[string]string{"site": "north", "model": "a&b"}
		})
		r, ok := w.server.Registration(endpointName)
		require.True(t, ok)
		require.Equal(t, "model=a%26b&site=north", r.Attributes)
		w.events.kinds()
		time.Sleep(11 * time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventAsleep}, w.events.kinds())
	})
}
