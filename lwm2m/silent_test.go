package lwm2m_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestRequestsToSilentDevicesCostBytes measures requests to devices that do not answer. Half of the
// cost is the endpoint's: the message, which it repeats, and the peer.
func TestRequestsToSilentDevicesCostBytes(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		endpoints := make([]string, 2000)
		for i := range endpoints {
			endpoints[i] = w.registerSilent(i)
		}
		time.Sleep(10 * time.Minute)
		r := lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion, Notice: func(lwm2m.Notice) {}}
		for _, err := range waitingCost(t, w, endpoints, r, 20*time.Second, 3000, func([]*lwm2m.Call) {
			time.Sleep(10 * time.Minute)
		}) {
			require.ErrorIs(t, err, lwm2m.ErrTimeout)
		}
	})
}
