package lwm2m_test

import (
	"context"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

func TestClientConfiguration(t *testing.T) {
	device := []lwm2m.Object{lwm2m.DeviceObject{}}
	for _, test := range []struct {
		name   string
		config lwm2m.ClientConfig
		want   error
	}{
		{"no server", lwm2m.ClientConfig{Endpoint: "a"}, lwm2m.ErrUnsupportedScheme},
		{"no host", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://"}, lwm2m.ErrPath},
		{"another scheme", lwm2m.ClientConfig{Endpoint: "a", Server: "http://h"}, lwm2m.ErrUnsupportedScheme},
		{"a path", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h/rd"}, lwm2m.ErrPath},
		{"a bad port", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h:99999"}, lwm2m.ErrPath},
		{"no endpoint", lwm2m.ClientConfig{Server: "coap://h"}, lwm2m.ErrBadRequest},
		{"a long endpoint", lwm2m.ClientConfig{Endpoint: strings.Repeat("x", 256), Server: "coap://h"}, lwm2m.ErrBadRequest},
		{"control characters", lwm2m.ClientConfig{Endpoint: "a\n", Server: "coap://h"}, lwm2m.ErrBadRequest},
		{"an unknown version", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h", Version: "3.0"}, lwm2m.ErrPreconditionFailed},
		{"a lifetime below a second", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h", Lifetime: 1}, lwm2m.ErrBadRequest},
		{"an object twice", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h", Objects: append(device, device...)}, lwm2m.ErrBadRequest},
		{"object 1", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h", Objects: []lwm2m.Object{emptyObject(1)}}, lwm2m.ErrBadRequest},
		{"object 0", lwm2m.ClientConfig{Endpoint: "a", Server: "coap://h", Objects: []lwm2m.Object{emptyObject(0)}}, lwm2m.ErrBadRequest},
	} {
		require.ErrorIs(t, lwm2m.NewClient(test.config).Run(t.Context()), test.want, test.name)
	}
}

// scriptedServer answers the requests of a device from a list, the last answer for ever.
type scriptedServer struct {
	mu       sync.Mutex
	answers  []*coap.Response
	requests []string
	at       []time.Duration
	start    time.Time
}

func (s *scriptedServer) ServeCOAP(_ context.Context, r *coap.IncomingRequest) *coap.Response {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Path()+"?"+strings.Join(r.Queries(), "&"))
	s.at = append(s.at, time.Since(s.start))
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	return answer
}

func (s *scriptedServer) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

func created() *coap.Response {
	var options coap.Options
	options = coap.AppendString(options, coap.LocationPath, "rd")
	options = coap.AppendString(options, coap.LocationPath, "x")
	return &coap.Response{Code: coap.Created, Options: options}
}

// inScript runs f with a scripted server in virtual time.
func inScript(t *testing.T, answers []*coap.Response, f func(t *testing.T, w *world, s *scriptedServer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(1)}
		s := &scriptedServer{answers: answers, start: time.Now()}
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		endpoint := coap.New(coap.Config{Handler: s})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- endpoint.ServePacket(ctx, conn) }()
		f(t, w, s)
		cancel()
		<-done
		require.NoError(t, endpoint.Close())
	})
}

func TestClientLowersVersion(t *testing.T) {
	refuse := &coap.Response{Code: coap.PreconditionFailed}
	inScript(t, []*coap.Response{refuse, refuse, created()}, func(t *testing.T, w *world, s *scriptedServer) {
		w.device(func(c *lwm2m.ClientConfig) { c.Version = "1.2" })
		got := s.got()
		require.Len(t, got, 3)
		for i, version := range []string{"1.2", "1.1", "1.0"} {
			require.Equal(t, "/rd?lwm2m="+version+"&ep="+endpointName+"&lt=300", got[i])
		}
	})
}

// TestClientBacksOff is refused again and again: the pauses grow, and do not grow without bound.
func TestClientBacksOff(t *testing.T) {
	inScript(t, []*coap.Response{{Code: coap.Forbidden}}, func(t *testing.T, w *world, s *scriptedServer) {
		client, _ := w.deviceStop(func(c *lwm2m.ClientConfig) { c.MinRetry, c.MaxRetry = time.Second, time.Minute })
		time.Sleep(time.Hour)
		require.False(t, client.Registered())
		n := len(s.got())
		require.Greater(t, n, 60)
		require.Less(t, n, 140)
		s.mu.Lock()
		defer s.mu.Unlock()
		require.Less(t, s.at[3], 8*time.Second)
		for i := range s.at[1:] {
			require.LessOrEqual(t, s.at[i+1]-s.at[i], time.Minute)
		}
	})
}

func TestClientRegistersAnewAfter404(t *testing.T) {
	answers := []*coap.Response{created(), {Code: coap.NotFound}, created(), {Code: coap.Changed}}
	inScript(t, answers, func(t *testing.T, w *world, s *scriptedServer) {
		w.device(nil)
		time.Sleep(5 * time.Minute)
		got := s.got()
		require.Equal(t, "/rd/x?", got[1])
		require.True(t, strings.HasPrefix(got[2], "/rd?"))
	})
}

// TestClientGoesOfflineForDays loses the network for a week.
func TestClientGoesOfflineForDays(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client := w.device(nil)
		w.cut(true)
		time.Sleep(7 * 24 * time.Hour)
		require.False(t, client.Registered())
		w.cut(false)
		time.Sleep(8 * time.Minute)
		require.True(t, client.Registered())
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

// TestOnlyTheServerIsObeyed has a stranger send requests to the device's socket.
func TestOnlyTheServerIsObeyed(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var rebooted atomic.Bool
		w.device(func(c *lwm2m.ClientConfig) {
			c.Objects = []lwm2m.Object{lwm2m.DeviceObject{Reboot: func() { rebooted.Store(true) }}}
		})
		r, _ := w.server.Registration(endpointName)
		conn, err := w.net.Listen("10.0.0.66:5683")
		require.NoError(t, err)
		defer conn.Close()
		execute, err := hex.DecodeString("40021234" + "b133" + "0130" + "0134") // CON POST /3/0/4
		require.NoError(t, err)
		_, err = conn.WriteTo(execute, net.UDPAddrFromAddrPort(r.Address))
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.False(t, rebooted.Load())
		require.NoError(t, w.server.Execute(t.Context(), endpointName, lwm2m.NewPath(3, 0, 4), ""))
		time.Sleep(time.Minute)
		require.True(t, rebooted.Load())
	})
}

// runningObject ends its Run with an error when told to.
type runningObject struct {
	emptyObject
	end chan error
}

func (o runningObject) Run(ctx context.Context, _ *lwm2m.Client) error {
	select {
	case err := <-o.end:
		return err
	case <-ctx.Done():
		return nil
	}
}

func TestRunnerEndsClient(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		restart := errors.New("restart")
		o := runningObject{emptyObject(10000), make(chan error)}
		client := lwm2m.NewClient(lwm2m.ClientConfig{
			Endpoint: endpointName, Server: "coap://" + serverAddress, Objects: []lwm2m.Object{o},
			Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
		})
		ran := make(chan error)
		go func() { ran <- client.Run(t.Context()) }()
		require.NoError(t, client.WaitRegistered(t.Context()))
		w.events.kinds()
		o.end <- restart
		require.Equal(t, restart, <-ran)
		require.Empty(t, w.events.kinds(), "it will be back, so it does not say farewell")
		require.ErrorIs(t, client.Run(t.Context()), lwm2m.ErrClosed)
	})
}

// TestInstancesChange has an instance come: the server is told with an Update.
func TestInstancesChange(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		o := &growingObject{emptyObject: 10000}
		client := w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, o) })
		w.events.kinds()
		o.mu.Lock()
		o.instances = []uint16{0, 1}
		o.mu.Unlock()
		client.Notify(lwm2m.NewPath(10000))
		time.Sleep(time.Second)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventUpdated}, w.events.kinds())
		r, _ := w.server.Registration(endpointName)
		require.True(t, r.Objects().Has(lwm2m.NewPath(10000, 1)))
	})
}

type growingObject struct {
	emptyObject
	mu        sync.Mutex
	instances []uint16
}

func (o *growingObject) Instances() []uint16 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]uint16(nil), o.instances...)
}
