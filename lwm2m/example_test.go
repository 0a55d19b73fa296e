package lwm2m_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"

	"github.com/otago-iot/otago/lwm2m"
)

// listen returns a socket on loopback and its URI.
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

// A device with an object of its own, in about twenty lines, sends a value by itself. For an object
// of values that the program sets there is [lwm2m.ValueObject].
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

// A temperature sensor: the program sets what it measures, and a server that observes it is
// notified. The server may write one resource, the unit.
func ExampleValueObject() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		panic(err)
	}
	conn, uri := listen()
	served := make(chan error)
	go func() { served <- server.ServePacket(ctx, conn) }()

	celsius, unit := lwm2m.NewPath(3303, 0, 5700), lwm2m.NewPath(3303, 0, 5701)
	sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID:     3303,
		Values: []lwm2m.Entry{{Path: celsius, Value: lwm2m.Float(21)}, {Path: unit, Value: lwm2m.String("Cel")}},
		Writable: map[uint16]func(lwm2m.Value) error{
			5701: func(v lwm2m.Value) error {
				if text, _ := v.Text(); text != "Cel" && text != "K" {
					return errors.New("the unit is Cel or K")
				}
				return nil
			},
		},
		OnWrite: func(_ context.Context, values []lwm2m.Entry) error {
			fmt.Println("written:", values[0].Path, values[0].Value) // store it here
			return nil
		},
	})
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{Endpoint: "sensor-7", Server: uri, Objects: []lwm2m.Object{sensor}})
	if err != nil {
		panic(err)
	}
	running, end := context.WithCancel(ctx)
	ran := make(chan error)
	go func() { ran <- client.Run(running) }()
	if err := client.WaitRegistered(ctx); err != nil {
		panic(err)
	}

	// The other side: values arrive in the function.
	values := make(chan lwm2m.Value, 1)
	observation, err := server.Observe(ctx, "sensor-7", celsius, func(entries []lwm2m.Entry) { values <- entries[0].Value })
	if err != nil {
		panic(err)
	}
	fmt.Println("observed:", <-values)
	sensor.Set(celsius, lwm2m.Float(22.5))
	fmt.Println("observed:", <-values)
	if err := observation.Cancel(ctx); err != nil {
		panic(err)
	}

	fmt.Println(server.WriteValue(ctx, "sensor-7", unit, lwm2m.String("K")))
	fmt.Println(server.WriteValue(ctx, "sensor-7", unit, lwm2m.String("F")))

	end()
	fmt.Println(<-ran)
	stop()
	fmt.Println(<-served)
	// Output:
	// observed: 21
	// observed: 22.5
	// written: /3303/0/5701 K
	// <nil>
	// lwm2m: 4.00 on /3303/0/5701: "bad request: /3303/0/5701: the unit is Cel or K"
	// <nil>
	// <nil>
}

// A device whose program ends for a reboot that a server orders. It does not de-register, since it
// registers again after the reboot.
func ExampleClient_Stop() {
	errReboot := errors.New("the server ordered a reboot")
	var client *lwm2m.Client
	device := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{
		Manufacturer: "Example", FirmwareVersion: "1.0.0",
		Reboot: func() { client.Stop(errReboot) },
	})
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "urn:dev:os:0023C7-000001",
		Server:   "coap://lwm2m.example.com",
		Objects:  []lwm2m.Object{device},
	})
	if err != nil {
		log.Fatal(err)
	}
	device.Set(lwm2m.NewPath(3, 0, 9), lwm2m.Integer(80)) // the level of the battery
	if err := client.Run(context.Background()); errors.Is(err, errReboot) {
		fmt.Println("reboot now")
	}
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
