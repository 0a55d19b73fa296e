package lwm2m_test

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestFunctionsThatEndTheirGoroutine: functions of the program end their goroutine, as a failed
// test does. The server still calls the others, and calls them again the next time.
func TestFunctionsThatEndTheirGoroutine(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var mu sync.Mutex
		count := map[string]int{}
		ends := func(name string) {
			mu.Lock()
			count[name]++
			mu.Unlock()
			runtime.Goexit()
		}
		for range 3 {
			w.server.Watch(func(lwm2m.RegistrationEvent) { ends("event") })
		}
		o := &sensor{}
		device := w.device(func(c *lwm2m.ClientConfig) {
			c.Objects, c.Models = append(c.Objects, o), sensorModels(t)
		})
		path := lwm2m.NewPath(3303, 0, 5700)
		_, err := w.server.Observe(t.Context(), endpointName, path, func([]lwm2m.Entry) { ends("values") })
		require.NoError(t, err)
		synctest.Wait()
		o.set(1)
		device.Notify(path)
		time.Sleep(time.Second) // the client pauses between two evaluations
		w.server.Go(lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpRead, Path: path,
			Notice: func(lwm2m.Notice) { ends("notice") },
		}, func(lwm2m.Answer) { ends("done") })
		synctest.Wait()
		w.server.Go(lwm2m.Request{Endpoint: "unknown", Operation: lwm2m.OpRead, Path: path}, func(lwm2m.Answer) { ends("done") })
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, map[string]int{"event": 3, "values": 2, "notice": 1, "done": 2}, count)
		require.Equal(t, []lwm2m.EventKind{lwm2m.EventRegistered}, w.events.kinds())
	})
}
