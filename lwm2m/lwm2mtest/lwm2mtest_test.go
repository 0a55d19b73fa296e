package lwm2mtest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// Test_sensor is the example of the package's page.
func Test_sensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
		value := lwm2m.NewPath(3303, 0, 5700)
		sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: 3303, Values: []lwm2m.Entry{{Path: value, Value: lwm2m.Float(21)}},
		})
		client := lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "a", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{sensor},
		})
		require.True(t, client.Registered())
		entries, err := server.Read(t.Context(), "a", value)
		require.NoError(t, err)
		require.Equal(t, "21", entries[0].Value.String())
	})
}
