package lwm2m_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestReadLeavesOutWhatIsWriteOnly reads an instance that has a password (9/0/15), which servers
// may only write.
func TestReadLeavesOutWhatIsWriteOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
		software := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: 9,
			Values: []lwm2m.Entry{
				{Path: lwm2m.NewPath(9, 0, 0), Value: lwm2m.String("tool")},
				{Path: lwm2m.NewPath(9, 0, 15), Value: lwm2m.String("secret")},
			},
		})
		lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "sensor-7", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{software},
		})
		for _, path := range []lwm2m.Path{lwm2m.NewPath(9), lwm2m.NewPath(9, 0)} {
			entries, err := server.Read(t.Context(), "sensor-7", path)
			require.NoError(t, err)
			require.Len(t, entries, 1, "%s", path)
			require.Equal(t, lwm2m.NewPath(9, 0, 0), entries[0].Path)
		}
		_, err := server.Read(t.Context(), "sensor-7", lwm2m.NewPath(9, 0, 15))
		require.ErrorIs(t, err, lwm2m.ErrMethodNotAllowed)
	})
}

// TestContradictingPeriods sets a maximum evaluation period on an object, and a longer minimum one
// on its resource: the client waits for the minimum, and does nothing meanwhile.
func TestContradictingPeriods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
		path := lwm2m.NewPath(3303, 0, 5700)
		sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 3303, Values: []lwm2m.Entry{{Path: path, Value: lwm2m.Float(20)}}})
		lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
			Endpoint: "sensor-7", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{sensor},
		})
		write := func(p lwm2m.Path, name lwm2m.Attribute, seconds float64) {
			t.Helper()
			var a lwm2m.Attributes
			require.NoError(t, a.Set(name, seconds))
			require.NoError(t, server.WriteAttributes(t.Context(), "sensor-7", p, a))
		}
		write(lwm2m.NewPath(3303), lwm2m.AttributeEPMax, 1)
		write(path, lwm2m.AttributeEPMin, 60)
		notified := make(chan struct{}, 10)
		_, err := server.Observe(t.Context(), "sensor-7", path, func([]lwm2m.Entry) { notified <- struct{}{} })
		require.NoError(t, err)
		start := time.Now()
		sensor.Set(path, lwm2m.Float(21))
		<-notified
		<-notified
		require.GreaterOrEqual(t, time.Since(start), 50*time.Second)
		require.LessOrEqual(t, time.Since(start), 2*time.Minute)
	})
}
