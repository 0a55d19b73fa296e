package lwm2mtest_test

import (
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
