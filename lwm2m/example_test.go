package lwm2m_test

import (
	"bytes"
	"context"
	"fmt"
	"net"

	"github.com/otago-iot/otago/lwm2m"
)

// listen returns a socket on loopback, and the URI that leads to it.
func listen() (net.PacketConn, string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return conn, "coap://" + conn.LocalAddr().String()
}

// A server that asks each device that registers for its firmware version, and a device.
func ExampleServer() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		panic(err)
	}
	answered := make(chan struct{})
	server.Watch(func(e lwm2m.RegistrationEvent) {
		if e.Kind != lwm2m.EventRegistered {
			return
		}
		entries, err := server.Read(ctx, e.Registration.Endpoint, lwm2m.NewPath(3, 0, 3))
		if err != nil {
			fmt.Println(err)
		}
		for _, entry := range entries {
			fmt.Println(e.Registration.Endpoint, entry.Path, entry.Value)
		}
		close(answered)
	})
	conn, uri := listen() // server.ListenAndServe(ctx, "coap://127.0.0.1:5683") has a fixed port
	served := make(chan error)
	go func() { served <- server.ServePacket(ctx, conn) }()

	device, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "urn:dev:os:0023C7-000001",
		Server:   uri,
		Objects:  []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "Example", FirmwareVersion: "1.0.0"})},
	})
	if err != nil {
		panic(err)
	}
	running, end := context.WithCancel(ctx)
	ran := make(chan error)
	go func() { ran <- device.Run(running) }()

	<-answered
	end() // it de-registers
	fmt.Println(<-ran)
	stop()
	fmt.Println(<-served)
	// Output:
	// urn:dev:os:0023C7-000001 /3/0/3 1.0.0
	// <nil>
	// <nil>
}

// thermometer is object 3303 with one instance, which has one resource.
type thermometer struct{ celsius float64 }

func (t thermometer) ID() uint16          { return 3303 }
func (t thermometer) Version() string     { return "" }
func (t thermometer) Instances() []uint16 { return []uint16{0} }

func (t thermometer) Read(_ context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	value := lwm2m.Entry{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(t.celsius)}
	if !path.Contains(value.Path) {
		return nil, lwm2m.ErrNotFound
	}
	return []lwm2m.Entry{value}, nil
}

func (t thermometer) Write(context.Context, lwm2m.Path, []lwm2m.Entry, bool) error {
	return lwm2m.ErrMethodNotAllowed
}

func (t thermometer) Execute(context.Context, lwm2m.Path, string) error {
	return lwm2m.ErrMethodNotAllowed
}

// A device with an object of its own, in about twenty lines, sends a value by itself.
func ExampleClient() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		panic(err)
	}
	sent := make(chan lwm2m.RegistrationEvent, 1)
	server.Watch(func(e lwm2m.RegistrationEvent) {
		if e.Kind == lwm2m.EventSent {
			sent <- e
		}
	})
	conn, uri := listen()
	served := make(chan error)
	go func() { served <- server.ServePacket(ctx, conn) }()

	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "thermometer-7",
		Server:   uri,
		Objects:  []lwm2m.Object{thermometer{celsius: 21.5}},
	})
	if err != nil {
		panic(err)
	}
	running, end := context.WithCancel(ctx)
	ran := make(chan error)
	go func() { ran <- client.Run(running) }()
	if err := client.WaitRegistered(ctx); err != nil {
		panic(err)
	}
	err = client.Send(ctx, []lwm2m.Entry{{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(21.5)}})
	if err != nil {
		panic(err)
	}
	e := <-sent
	fmt.Println(e.Registration.Endpoint, e.Entries[0].Path, e.Entries[0].Value)

	end()
	fmt.Println(<-ran)
	stop()
	fmt.Println(<-served)
	// Output:
	// thermometer-7 /3303/0/5700 21.5
	// <nil>
	// <nil>
}

// A download over CoAP.
func ExampleFetch() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	image := bytes.Repeat([]byte("firmware"), 1000)
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		panic(err)
	}
	server.Handle("/fw/sensor", &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte{1, 2, 3}})
	conn, uri := listen()
	served := make(chan error)
	go func() { served <- server.ServePacket(ctx, conn) }()

	var got bytes.Buffer
	result, err := lwm2m.Fetch(ctx, uri+"/fw/sensor", &got, lwm2m.FetchConfig{})
	fmt.Println(result.Size, bytes.Equal(got.Bytes(), image), err)

	stop()
	fmt.Println(<-served)
	// Output:
	// 8000 true <nil>
	// <nil>
}
