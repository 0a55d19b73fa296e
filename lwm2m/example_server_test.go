package lwm2m_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// serveDevice serves a server and runs a device until end is called.
func serveDevice(config lwm2m.ServerConfig) (server *lwm2m.Server, device *lwm2m.Client, end func()) {
	server, err := lwm2m.NewServer(config)
	if err != nil {
		panic(err)
	}
	conn, uri := listen() // server.ListenAndServe(ctx, "coap://127.0.0.1:5683") has a fixed port
	device, err = lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "sensor-1", Server: uri, Objects: []lwm2m.Object{thermometer{celsius: 21.5}},
	})
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = server.ServePacket(ctx, conn) })
	deviceCtx, stopDevice := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- device.Run(deviceCtx) }()
	if err := device.WaitRegistered(ctx); err != nil {
		panic(err)
	}
	return server, device, func() {
		stopDevice()
		<-ended
		stop()
		running.Wait()
	}
}

// One resource of a device.
func ExampleServer_ReadValue() {
	server, _, end := serveDevice(lwm2m.ServerConfig{})
	defer end()
	v, err := server.ReadValue(context.Background(), "sensor-1", lwm2m.NewPath(3303, 0, 5700))
	if err != nil {
		fmt.Println(err)
		return
	}
	number, _ := v.As(lwm2m.TypeFloat) // object 3303 has no model here, so the answer is text
	celsius, ok := number.Float64()
	fmt.Println(celsius, ok)
	// Output: 21.5 true
}

// The present value comes first, then one for each notification.
func ExampleServer_Observe() {
	server, _, end := serveDevice(lwm2m.ServerConfig{})
	defer end()
	ctx := context.Background()
	path := lwm2m.NewPath(3303, 0, 5700)

	var attributes lwm2m.Attributes // at most one notification in 10 s, at least one in 10 minutes
	_ = attributes.Set(lwm2m.AttributePMin, 10)
	_ = attributes.Set(lwm2m.AttributePMax, 600)
	if err := server.WriteAttributes(ctx, "sensor-1", path, attributes); err != nil {
		fmt.Println(err)
		return
	}
	values := make(chan lwm2m.Value, 16)
	observation, err := server.Observe(ctx, "sensor-1", path, func(entries []lwm2m.Entry) {
		for _, e := range entries {
			values <- e.Value
		}
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-values)
	select {
	case <-observation.Done(): // the device registered again, or ended it: Observe again when it registers
		fmt.Println(observation.Err())
	default:
	}
	fmt.Println(observation.Cancel(ctx))
	// Output:
	// 21.5
	// <nil>
}

// The values of all devices, as long as they register. Follow may be called before the server
// serves.
func ExampleServer_Follow() {
	server, device, end := serveDevice(lwm2m.ServerConfig{})
	defer end()
	values := make(chan lwm2m.Values, 16)
	stop := server.Follow([]lwm2m.Path{lwm2m.NewPath(3303)}, nil, func(v lwm2m.Values) {
		values <- v // for example into a database
	})
	defer stop()

	v := <-values
	fmt.Println(v.Registration.Endpoint, v.First, v.Entries[0].Path, v.Entries[0].Value)
	err := device.Send(context.Background(), []lwm2m.Entry{{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(22.5)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	v = <-values
	fmt.Println(v.Registration.Endpoint, v.Send, v.Entries[0].Path, v.Entries[0].Value)
	// Output:
	// sensor-1 true /3303/0/5700 21.5
	// sensor-1 true /3303/0/5700 22.5
}

// directory is a registry of devices somewhere else, which may be down.
type directory struct {
	lookUp func(identity string) (key string, err error)
}

var errNoRow = errors.New("no row")

// PSK distinguishes an unknown identity from a registry that is down: only the first is refused.
func (d directory) PSK(_ context.Context, identity string) ([]byte, error) {
	key, err := d.lookUp(identity)
	switch {
	case errors.Is(err, errNoRow):
		return nil, lwm2m.ErrUnknownIdentity
	case err != nil:
		return nil, fmt.Errorf("device registry: %w", err) // the device tries again later
	}
	return hex.DecodeString(key)
}

// Endpoint lets each identity register the endpoint of the same name.
func (d directory) Endpoint(_ context.Context, id lwm2m.Identity) (string, error) {
	if id.Kind != lwm2m.IdentityPSK {
		return "", lwm2m.ErrUnknownIdentity
	}
	return id.Name, nil
}

// Keys from a registry of devices.
func ExampleCredentials() {
	var credentials lwm2m.Credentials = directory{func(identity string) (string, error) {
		if identity != "sensor-1" {
			return "", errNoRow
		}
		return "00112233445566778899aabbccddeeff", nil
	}}
	_, err := lwm2m.NewServer(lwm2m.ServerConfig{Credentials: credentials})
	fmt.Println(err)
	key, _ := credentials.PSK(context.Background(), "sensor-1")
	_, err = credentials.PSK(context.Background(), "sensor-2")
	fmt.Println(len(key), err)
	// Output:
	// <nil>
	// 16 lwm2m: unknown identity
}

// counters are metrics by name.
type counters struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counters) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
}

// Metrics from hooks.
func ExampleServerHooks() {
	metrics := &counters{n: map[string]int{}}
	server, _, end := serveDevice(lwm2m.ServerConfig{Hooks: lwm2m.ServerHooks{
		Handshake: func(t lwm2m.Transport, _ netip.AddrPort, _ lwm2m.Identity, err error) {
			metrics.add(fmt.Sprintf("handshakes{transport=%q,ok=%t}", t, err == nil), 1)
		},
		Refused: func(_ lwm2m.Registration, err error) { metrics.add("refused", 1) },
		Registration: func(e lwm2m.RegistrationEvent) {
			metrics.add(fmt.Sprintf("registrations{event=%q}", e.Kind), 1)
		},
		Request: func(r lwm2m.RequestEnd) {
			metrics.add(fmt.Sprintf("requests{operation=%q,code=%q}", r.Operation, r.Code), 1)
			_ = r.Took // for a histogram
		},
		Retransmission: func(string, lwm2m.Transport, netip.AddrPort) { metrics.add("retransmissions", 1) },
		Dropped:        func(what string, n int) { metrics.add("dropped{what="+what+"}", n) },
	}})
	_, err := server.ReadValue(context.Background(), "sensor-1", lwm2m.NewPath(3303, 0, 5700))
	fmt.Println(err)
	end()
	const read = `requests{operation="read",code="2.05"}`
	for range 2000 { // hooks run in a goroutine of their own
		metrics.mu.Lock()
		reads := metrics.n[read]
		metrics.mu.Unlock()
		if reads > 0 {
			fmt.Println(read, reads)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	// Output:
	// <nil>
	// requests{operation="read",code="2.05"} 1
}
