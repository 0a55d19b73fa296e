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

// TestCount counts devices that listen, sleep, leave a request unanswered, and are gone.
func TestCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := simnet.New(1)
		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
		count := func(selects func(string) bool) [3]int {
			listening, asleep, silent := server.Count(selects)
			return [3]int{listening, asleep, silent}
		}
		require.Equal(t, [3]int{}, count(nil))
		for endpoint, queue := range map[string]bool{"a": false, "b": false, "q": true} {
			lwm2mtest.Register(t, network, map[string]string{"a": "10.0.0.2:0", "b": "10.0.0.3:0", "q": "10.0.0.4:0"}[endpoint], lwm2m.ClientConfig{
				Endpoint: endpoint, Server: "coap://10.0.0.1:5683", Queue: queue, Lifetime: time.Hour,
				Objects: []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{})},
			})
		}
		require.Equal(t, [3]int{3, 0, 0}, count(nil))
		time.Sleep(5 * time.Minute)
		require.Equal(t, [3]int{2, 1, 0}, count(nil))
		require.Equal(t, lwm2m.Listening, server.Presence("a"))
		require.Equal(t, lwm2m.Asleep, server.Presence("q"))
		require.Equal(t, lwm2m.Away, server.Presence("none"))
		require.Equal(t, [3]int{1, 0, 0}, count(func(endpoint string) bool { return endpoint == "b" }))

		network.SetDefault(simnet.Conditions{Loss: 1})
		_, err := server.Read(t.Context(), "a", lwm2m.NewPath(3, 0))
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		require.Equal(t, [3]int{1, 1, 1}, count(nil))
		require.Equal(t, lwm2m.Silent, server.Presence("a"))
		network.SetDefault(simnet.Conditions{})
		_, err = server.Read(t.Context(), "a", lwm2m.NewPath(3, 0))
		require.NoError(t, err)
		require.Equal(t, [3]int{2, 1, 0}, count(nil))
	})
}
