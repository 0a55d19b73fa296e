package lwm2m_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

var errReboot = errors.New("reboot")

// stoppable starts a client that ends with errReboot when a server reboots it, and returns a
// channel for the result of Run.
func (w *world) stoppable(change func(*lwm2m.ClientConfig)) (*lwm2m.Client, <-chan error) {
	w.t.Helper()
	var client *lwm2m.Client
	config := lwm2m.ClientConfig{
		Endpoint: endpointName, Server: "coap://" + serverAddress, Models: sensorModels(w.t),
		Objects: []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{
			FirmwareVersion: "1.0.0", Reboot: func() { client.Stop(errReboot) },
		})},
		Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
	}
	if change != nil {
		change(&config)
	}
	client, err := lwm2m.NewClient(config)
	require.NoError(w.t, err)
	done := make(chan error, 1)
	go func() { done <- client.Run(w.t.Context()) }()
	return client, done
}

// forgetful drops the first answer 2.04 of a device.
type forgetful struct {
	net.PacketConn
	once sync.Once
}

func (f *forgetful) WriteTo(b []byte, to net.Addr) (int, error) {
	lost := false
	if len(b) > 1 && b[1] == 0x44 {
		f.once.Do(func() { lost = true })
	}
	if lost {
		return len(b), nil
	}
	return f.PacketConn.WriteTo(b, to)
}

// TestStopForReboot: the server gets the answer to the order to reboot, even if the first one is
// lost, and keeps the registration.
func TestStopForReboot(t *testing.T) {
	for _, loses := range []bool{false, true} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			client, done := w.stoppable(func(c *lwm2m.ClientConfig) {
				listen := c.Listen
				c.Listen = func(ctx context.Context) (net.PacketConn, error) {
					conn, err := listen(ctx)
					if loses {
						conn = &forgetful{PacketConn: conn}
					}
					return conn, err
				}
			})
			require.NoError(t, client.WaitRegistered(t.Context()))
			w.events.kinds()
			start := time.Now()
			require.NoError(t, w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(3, 0, 4), ""))
			require.Equal(t, errReboot, <-done)
			require.LessOrEqual(t, time.Since(start), 4*time.Second+time.Millisecond)
			require.False(t, client.Registered())
			require.Empty(t, w.events.kinds(), "it does not de-register")
			require.True(t, w.server.Registered(endpointName))

			client, done = w.stoppable(nil)
			require.NoError(t, client.WaitRegistered(t.Context()))
			require.Equal(t, "1.0.0", w.read("/3/0/3"))
			client.Stop(nil)
			require.NoError(t, <-done)
		})
	}
}

// TestStopUnderLoss: Run returns soon, whatever is lost, and the request of the server succeeds or
// ends with ErrDeliveryUnknown.
func TestStopUnderLoss(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(simnet.Conditions{Loss: 0.3, Duplicate: 0.1, Reorder: 0.2, Delay: 100 * time.Millisecond, Jitter: 100 * time.Millisecond})
		for range 100 {
			client, done := w.stoppable(nil)
			require.NoError(t, client.WaitRegistered(t.Context()))
			err := w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(3, 0, 4), "")
			if errors.Is(err, lwm2m.ErrDeliveryUnknown) {
				client.Stop(errReboot) // it may not have arrived
			} else {
				require.NoError(t, err)
			}
			start := time.Now()
			require.Equal(t, errReboot, <-done)
			require.LessOrEqual(t, time.Since(start), 10*time.Second)
		}
	})
}

// TestStopWhenever stops a client before, during and after everything, more than once.
func TestStopWhenever(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client, err := lwm2m.NewClient(lwm2m.ClientConfig{Endpoint: "a", Server: "coap://" + serverAddress})
		require.NoError(t, err)
		client.Stop(errReboot)
		require.Equal(t, errReboot, client.Run(t.Context()), "before Run")
		require.ErrorIs(t, client.Run(t.Context()), lwm2m.ErrClosed)
		require.Empty(t, w.events.kinds())

		w.cut(true)
		for _, after := range []time.Duration{0, time.Second, 10 * time.Minute} { // the last in a pause, or another attempt
			client, done := w.stoppable(nil)
			time.Sleep(after)
			start := time.Now()
			client.Stop(errReboot)
			require.Equal(t, errReboot, <-done, "during Register")
			require.Zero(t, time.Since(start))
		}
		w.cut(false)

		client, done := w.stoppable(nil)
		require.NoError(t, client.WaitRegistered(t.Context()))
		var stops sync.WaitGroup
		for range 10 {
			stops.Go(func() { client.Stop(errReboot) })
		}
		stops.Wait()
		client.Stop(errors.New("another"))
		require.Equal(t, errReboot, <-done)
		client.Stop(errors.New("another"))
	})
}

// TestStopAnswers: a request that has arrived is answered, if that takes no longer than 5 s.
func TestStopAnswers(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		for _, takes := range []time.Duration{3 * time.Second, time.Minute} {
			o := &wild{method: "Read", do: func(ctx context.Context) {
				select {
				case <-ctx.Done():
				case <-time.After(takes):
				}
			}}
			client, done := w.stoppable(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, o) })
			require.NoError(t, client.WaitRegistered(t.Context()))
			o.loose.Store(true)
			read := make(chan error, 1)
			go func() {
				_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3303, 0))
				read <- err
			}()
			synctest.Wait()
			start := time.Now()
			client.Stop(errReboot)
			require.Equal(t, errReboot, <-done)
			require.Equal(t, min(takes, 5*time.Second), time.Since(start))
			if err := <-read; takes < 5*time.Second {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		}
	})
}

// TestStopRefuses: new requests are refused while an earlier one is answered.
func TestStopRefuses(t *testing.T) {
	o := &wild{method: "Read", do: func(context.Context) { time.Sleep(3 * time.Second) }}
	withPicky(t, func(*coap.IncomingRequest) *coap.Response { return nil }, func(c *lwm2m.ClientConfig) {
		c.Objects = append(c.Objects, o)
	}, func(t *testing.T, p *picky, c *lwm2m.Client) {
		o.loose.Store(true)
		answers := make(chan coap.Code, 1)
		get := func(path ...string) coap.Code {
			resp, err := p.endpoint.Do(context.Background(), p.device(), &coap.Request{Code: coap.GET, Path: path})
			if err != nil {
				return 0
			}
			return resp.Code
		}
		go func() { answers <- get("3303", "0") }()
		synctest.Wait()
		c.Stop(nil)
		synctest.Wait()
		require.Equal(t, coap.ServiceUnavailable, get("3", "0", "3"))
		require.Equal(t, coap.Content, <-answers)
	})
}
