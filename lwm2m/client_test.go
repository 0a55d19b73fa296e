package lwm2m_test

import (
	"context"
	"crypto/tls"
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
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestClientConfiguration: NewClient refuses a configuration that cannot work, and names the field.
func TestClientConfiguration(t *testing.T) {
	pool, certificate := testkit.SelfSigned(t, endpointName)
	_, other := testkit.SelfSigned(t, endpointName)
	stranger := certificate
	stranger.PrivateKey = other.PrivateKey
	keyless := certificate
	keyless.PrivateKey = nil
	device := []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{})}
	secured := func(scheme string) func(*lwm2m.ClientConfig) {
		return func(c *lwm2m.ClientConfig) { c.Server = scheme + "://h" }
	}
	for want, change := range map[string]func(*lwm2m.ClientConfig){
		"Endpoint: not set":                      func(c *lwm2m.ClientConfig) { c.Endpoint = "" },
		"Endpoint: 253 bytes are more than 252":  func(c *lwm2m.ClientConfig) { c.Endpoint = strings.Repeat("x", 253) },
		`Endpoint: "a\n" is not printable`:       func(c *lwm2m.ClientConfig) { c.Endpoint = "a\n" },
		`Endpoint: "\xff" is not printable`:      func(c *lwm2m.ClientConfig) { c.Endpoint = "\xff" },
		"Server: not set":                        func(c *lwm2m.ClientConfig) { c.Server = "" },
		`Server: "h:5683" does not begin with`:   func(c *lwm2m.ClientConfig) { c.Server = "h:5683" },
		`Server: "http://h" does not begin with`: func(c *lwm2m.ClientConfig) { c.Server = "http://h" },
		`Server: "coap://" is not a scheme`:      func(c *lwm2m.ClientConfig) { c.Server = "coap://" },
		`Server: "coap://h/rd" is not a scheme`:  func(c *lwm2m.ClientConfig) { c.Server = "coap://h/rd" },
		`Server: "coap://h:99999" is not`:        func(c *lwm2m.ClientConfig) { c.Server = "coap://h:99999" },
		`Server: "coap://%" is not a scheme`:     func(c *lwm2m.ClientConfig) { c.Server = "coap://%" },
		"PSK: coaps needs it, Certificate or":    secured("coaps"),
		"Certificate: coaps+tcp needs it or":     secured("coaps+tcp"),
		"PSKIdentity: set without PSK":           func(c *lwm2m.ClientConfig) { c.PSKIdentity = "id" },
		"PSK: coaps+tcp takes a Certificate": func(c *lwm2m.ClientConfig) {
			secured("coaps+tcp")(c)
			c.PSK = []byte{1}
		},
		"PSK: Certificate is set too": func(c *lwm2m.ClientConfig) {
			secured("coaps")(c)
			c.PSK, c.Certificate = []byte{1}, &certificate
		},
		"PSK: coap is not secured":                       func(c *lwm2m.ClientConfig) { c.PSK = []byte{1} },
		"Certificate: coap is not secured and would not": func(c *lwm2m.ClientConfig) { c.Certificate = &certificate },
		"Certificate: it is empty":                       func(c *lwm2m.ClientConfig) { c.Certificate = &tls.Certificate{} },
		"Certificate: x509: malformed":                   func(c *lwm2m.ClientConfig) { c.Certificate = &tls.Certificate{Certificate: [][]byte{{1}}} },
		"Certificate: it has no private key":             func(c *lwm2m.ClientConfig) { c.Certificate = &keyless },
		"Certificate: its private key is of":             func(c *lwm2m.ClientConfig) { c.Certificate = &stranger },
		`Version: "3.0" is not 1.0, 1.1 or 1.2`:          func(c *lwm2m.ClientConfig) { c.Version = "3.0" },
		"Lifetime: 1ns is not whole seconds":             func(c *lwm2m.ClientConfig) { c.Lifetime = 1 },
		"Lifetime: 1.5s is not whole":                    func(c *lwm2m.ClientConfig) { c.Lifetime = 1500 * time.Millisecond },
		"Lifetime: -1s is not whole":                     func(c *lwm2m.ClientConfig) { c.Lifetime = -time.Second },
		"Lifetime: 1193046h28m16s":                       func(c *lwm2m.ClientConfig) { c.Lifetime = 1 << 32 * time.Second },
		"MinRetry: -1s is":                               func(c *lwm2m.ClientConfig) { c.MinRetry = -time.Second },
		"MaxRetry: -1s is":                               func(c *lwm2m.ClientConfig) { c.MaxRetry = -time.Second },
		"MaxRetry: 1s is below MinRetry, 2s":             func(c *lwm2m.ClientConfig) { c.MinRetry, c.MaxRetry = 2*time.Second, time.Second },
		"MaxMessage: -1 is":                              func(c *lwm2m.ClientConfig) { c.MaxMessage = -1 },
		"Objects: object 3 is there twice":               func(c *lwm2m.ClientConfig) { c.Objects = append(device, device...) },
		"Objects: the client adds object 1":              func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{emptyObject(1)} },
		"Objects: object 0 is one that no client":        func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{emptyObject(0)} },
		"Objects: object 65535 is one":                   func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{emptyObject(65535)} },
		"Objects: one is nil":                            func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{nil} },
		`object 10000 has the version "new", which is`:   func(c *lwm2m.ClientConfig) { c.Objects = []lwm2m.Object{newObject{emptyObject(10000)}} },
		"Listen: coap+tcp does not use it": func(c *lwm2m.ClientConfig) {
			c.Server = "coap+tcp://h"
			c.Listen = func(context.Context) (net.PacketConn, error) { return nil, errors.ErrUnsupported }
		},
	} {
		config := lwm2m.ClientConfig{Endpoint: endpointName, Server: "coap://h"}
		change(&config)
		client, err := lwm2m.NewClient(config)
		require.ErrorContains(t, err, "lwm2m: ClientConfig.", want)
		require.ErrorContains(t, err, want)
		require.Nil(t, client)
	}
	for name, config := range map[string]lwm2m.ClientConfig{
		"as little as there can be":              {Endpoint: "a", Server: "coap://h"},
		"the longest endpoint":                   {Endpoint: strings.Repeat("x", 252), Server: "coap://h"},
		"a key":                                  {Endpoint: "a", Server: "coaps://h", PSK: []byte{1}, PSKIdentity: "id"},
		"a certificate":                          {Endpoint: "a", Server: "coaps+tcp://h", Certificate: &certificate},
		"only authorities":                       {Endpoint: "a", Server: "coaps://h", RootCAs: pool},
		"the longest lifetime":                   {Endpoint: "a", Server: "coap://h", Lifetime: (1<<32 - 1) * time.Second},
		"MinRetry above the default of MaxRetry": {Endpoint: "a", Server: "coap://h", MinRetry: time.Hour},
	} {
		_, err := lwm2m.NewClient(config)
		require.NoError(t, err, name)
	}
}

// newObject has an invalid version.
type newObject struct{ emptyObject }

func (newObject) Version() string { return "new" }

// scriptedServer answers the requests of a device from a list, and repeats the last answer.
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

// TestClientBacksOff refuses each Register: the pauses grow up to a bound.
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

func TestClientRegistersAgainAfter404(t *testing.T) {
	answers := []*coap.Response{created(), {Code: coap.NotFound}, created(), {Code: coap.Changed}}
	inScript(t, answers, func(t *testing.T, w *world, s *scriptedServer) {
		w.device(nil)
		time.Sleep(5 * time.Minute)
		got := s.got()
		require.Equal(t, "/rd/x?", got[1])
		require.True(t, strings.HasPrefix(got[2], "/rd?"))
	})
}

// TestClientGoesOfflineForDays cuts the network for a week.
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

// TestOnlyTheServerIsObeyed sends a request to the device's socket from another address.
func TestOnlyTheServerIsObeyed(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var rebooted atomic.Bool
		w.device(func(c *lwm2m.ClientConfig) {
			c.Objects = []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Reboot: func() { rebooted.Store(true) }})}
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

// runningObject returns from Run with an error from the channel end.
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
		client, err := lwm2m.NewClient(lwm2m.ClientConfig{
			Endpoint: endpointName, Server: "coap://" + serverAddress, Objects: []lwm2m.Object{o},
			Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
		})
		require.NoError(t, err)
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

// TestInstancesChange adds an instance: the client sends an Update.
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
