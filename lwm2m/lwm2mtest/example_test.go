package lwm2mtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// testSensor is a test, TestSensor, of a program that reads a sensor over a link that loses every
// fifth datagram. It takes no real time.
func testSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1) // the seed, which decides what is lost
		network.SetDefault(simnet.Conditions{Loss: 0.2, Delay: 50 * time.Millisecond})
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})

		celsius := lwm2m.NewPath(3303, 0, 5700)
		sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: 3303, Values: []lwm2m.Entry{{Path: celsius, Value: lwm2m.Float(21)}},
		})
		lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "sensor-7", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{sensor},
		})

		entries, err := server.Read(t.Context(), "sensor-7", celsius)
		if err != nil || len(entries) != 1 || entries[0].Value.String() != "21" {
			t.Errorf("read %v, %v", entries, err)
		}
	})
}

// A test with a server, a network that loses datagrams, and a device.
func Example() {
	var t *testing.T // the one that TestSensor gets
	testSensor(t)
}

// keys are the keys of devices, whose identities are their endpoints.
type keys map[string][]byte

func (k keys) PSK(_ context.Context, identity string) ([]byte, error) {
	key, ok := k[identity]
	if !ok {
		return nil, lwm2m.ErrUnknownIdentity
	}
	return key, nil
}

func (k keys) Endpoint(_ context.Context, id lwm2m.Identity) (string, error) { return id.Name, nil }

// testKeys is a test, TestKeys, of a program whose devices have pre-shared keys.
func testKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		key := []byte("0123456789abcdef")
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5684", lwm2m.ServerConfig{Credentials: keys{"sensor-7": key}})
		lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "sensor-7", Server: "coaps://10.0.0.1:5684", PSK: key,
		})
		r, _ := server.Registration("sensor-7")
		if r.Identity.Name != "sensor-7" || r.Transport != lwm2m.TransportDTLS {
			t.Errorf("registered by %s as %s", r.Transport, r.Identity)
		}
	})
}

// A test with a server that knows its devices by their keys.
func Example_keys() {
	var t *testing.T // the one that TestKeys gets
	testKeys(t)
}
