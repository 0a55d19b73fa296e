package lwm2m_test

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// registerSilent registers a device that never sends anything again.
func (w *world) registerSilent(i int, queries ...string) (endpoint string) {
	w.t.Helper()
	endpoint = fmt.Sprintf("silent-%04d", i)
	m := []byte{0x40, 0x02, 0x12, 0x34, 0xb2, 'r', 'd', 0x11, 40} // CON POST /rd, in format 40
	delta := byte(3)                                              // to Uri-Query
	for _, q := range append([]string{"ep=" + endpoint, "lt=86400", "lwm2m=1.1"}, queries...) {
		if len(q) < 13 {
			m = append(m, delta<<4|byte(len(q)))
		} else {
			m = append(m, delta<<4|13, byte(len(q)-13))
		}
		m = append(m, q...)
		delta = 0
	}
	m = append(append(m, 0xff), "</3/0>"...)
	conn, err := w.net.Listen(fmt.Sprintf("10.1.%d.%d:5683", i/250, i%250+1))
	require.NoError(w.t, err)
	_, err = conn.WriteTo(m, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(serverAddress)))
	require.NoError(w.t, err)
	synctest.Wait()
	require.NoError(w.t, conn.Close())
	require.True(w.t, w.server.Registered(endpoint))
	return endpoint
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// waitingCost makes a request to each device and waits for pass. It checks that each waiting
// request costs less than limit bytes, and then ends all by end.
func waitingCost(t *testing.T, w *world, endpoints []string, r lwm2m.Request, pass time.Duration, limit int64,
	end func([]*lwm2m.Call)) (errs []error) {
	t.Helper()
	n := len(endpoints)
	calls, answers := make([]*lwm2m.Call, n), make([]error, n)
	var answered atomic.Int32
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	for i, endpoint := range endpoints {
		r.Endpoint = endpoint
		calls[i] = w.server.Go(r, func(a lwm2m.Answer) {
			answers[i] = a.Err
			answered.Add(1)
		})
	}
	time.Sleep(pass)
	synctest.Wait()
	require.Zero(t, answered.Load())
	more, bytes := runtime.NumGoroutine()-goroutines, (heapInUse()-heap)/int64(n)
	t.Logf("%d requests wait: %d goroutines more, %d bytes each", n, more, bytes)
	require.Less(t, more, 10)
	require.Less(t, bytes, limit)
	end(calls)
	synctest.Wait()
	require.EqualValues(t, n, answered.Load())
	return answers
}

// TestRequestsToSleepersCostBytes measures requests that wait for sleeping devices.
func TestRequestsToSleepersCostBytes(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		endpoints := make([]string, 2000)
		for i := range endpoints {
			endpoints[i] = w.registerSilent(i, "Q")
		}
		time.Sleep(10 * time.Minute)
		r := lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion, Notice: func(lwm2m.Notice) {}}
		for _, err := range waitingCost(t, w, endpoints, r, time.Hour, 1000, func(calls []*lwm2m.Call) {
			for _, c := range calls {
				c.Cancel(errEnough)
			}
		}) {
			require.ErrorIs(t, err, errEnough)
		}
	})
}
