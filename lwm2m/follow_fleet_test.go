package lwm2m_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// storedFleet returns a store with n devices at addresses from 10.1.0.0 on, and those of them that
// answer on the network.
func storedFleet(t *testing.T, network *simnet.Network, n, answering int) *memoryStore {
	t.Helper()
	store := &memoryStore{records: make(map[string]lwm2m.Registration)}
	for i := range n {
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], 10<<24+1<<16+uint32(i))
		at := netip.AddrPortFrom(netip.AddrFrom4(ip), 5683)
		endpoint := fmt.Sprint(i)
		store.records[endpoint] = lwm2m.Registration{
			Endpoint: endpoint, ID: "id" + endpoint, Address: at, Local: netip.MustParseAddrPort(serverAddress), Transport: lwm2m.TransportUDP,
			Lifetime: time.Hour, Links: "</3/0>,</3303/0>", Registered: time.Now(), Updated: time.Now(), LastSeen: time.Now(),
		}
		if i >= answering {
			continue
		}
		conn, err := network.Listen(at.String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 1500)
			for {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				if n < 4 || b[0]>>4 != 4 {
					continue
				}
				reply := append([]byte{b[0] + 0x20, 0x45}, b[2:4+int(b[0]&0xf)]...)
				if b[4+b[0]&0xf] == 0x60 {
					reply = append(reply, 0x61, 1)
				}
				_, _ = conn.WriteTo(append(reply, 0xff, '7'), from)
			}
		}()
	}
	return store
}

// TestFollowFleet: the server restarts with a fleet, half of which is gone. It observes the others
// soon, at a bounded pace, and a request of the program takes as long as ever.
func TestFollowFleet(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.stop()
		w.net.SetDefault(simnetDelay(300 * time.Millisecond))
		const n, answering = 2000, 1000
		store := storedFleet(t, w.net, n, answering)
		var mu sync.Mutex
		var open, most, sent int // open and most count devices that answer
		waits := map[netip.AddrPort]bool{}
		answers := func(at netip.AddrPort) bool {
			ip := at.Addr().As4()
			return int(ip[2])<<8|int(ip[3]) < answering
		}
		w.net.Tap(func(p simnet.Packet) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case p.From == netip.MustParseAddrPort(serverAddress) && p.Data[0]>>4 == 4:
				sent++
				if answers(p.To) && !waits[p.To] {
					waits[p.To] = true
					open++
					most = max(most, open)
				}
			case p.To == netip.MustParseAddrPort(serverAddress):
				open--
				delete(waits, p.From)
			}
		})
		w.start(lwm2m.ServerConfig{Registrations: store})
		firsts := map[lwm2m.Path]int{}
		var took []time.Duration
		begin := time.Now()
		w.server.Follow(paths(t, "/3/0/9", "/3303/0/5700"), nil, func(v lwm2m.Values) {
			mu.Lock()
			defer mu.Unlock()
			require.True(t, v.First)
			firsts[v.Path]++
			if firsts[v.Path] == answering {
				took = append(took, time.Since(begin))
			}
		})
		var slowest time.Duration
		for i := range 60 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			asked := time.Now()
			_, err := w.server.Read(ctx, fmt.Sprint(i*(answering/60)), lwm2m.NewPath(3, 0, 3))
			cancel()
			require.NoError(t, err)
			slowest = max(slowest, time.Since(asked))
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		t.Logf("observed after %v, at most %d devices at once, slowest read %v, %d messages", took, most, slowest, sent)
		require.Equal(t, map[lwm2m.Path]int{lwm2m.NewPath(3, 0, 9): answering, lwm2m.NewPath(3303, 0, 5700): answering}, firsts)
		require.Less(t, took[1], 50*time.Second)
		require.LessOrEqual(t, most, 256+1, "one is the program's")
		require.LessOrEqual(t, slowest, 1200*time.Millisecond, "a round trip behind one of an Observe")
	})
}

// TestFollowMemory: what a followed device costs in bytes, and that it costs no goroutine.
func TestFollowMemory(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.stop()
		const n = 1000
		w.start(lwm2m.ServerConfig{Registrations: storedFleet(t, w.net, n, n)})
		time.Sleep(2 * time.Second)
		heap := func() float64 {
			synctest.Wait()
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return float64(m.HeapAlloc)
		}
		for i := range n { // so that the network in memory has what it needs
			_, err := w.server.Read(t.Context(), fmt.Sprint(i), lwm2m.NewPath(3, 0, 9))
			require.NoError(t, err)
		}
		time.Sleep(10 * time.Minute)
		var stops []func()
		follow := func(p ...string) {
			stops = append(stops, w.server.Follow(paths(t, p...), nil, func(lwm2m.Values) {}))
			time.Sleep(time.Minute)
		}
		before, goroutines := heap(), runtime.NumGoroutine()
		follow("/4/0") // not on these devices
		listed := heap()
		follow("/3/0/9")
		one := heap()
		follow("/3/0/3", "/3/0/10", "/3303/0/5700")
		four := heap()
		t.Logf("bytes for each device: %.0f for a Follow, %.0f with its first path, %.0f for each further one",
			(listed-before)/n, (one-listed)/n, (four-one)/n/3)
		require.Less(t, (listed-before)/n, 400.0)
		require.Less(t, (one-listed)/n, 2600.0)
		require.Less(t, (four-one)/n/3, 1600.0)
		require.InDelta(t, goroutines, runtime.NumGoroutine(), 50)
		for _, stop := range stops {
			stop()
		}
		time.Sleep(10 * time.Minute)
		t.Logf("%.0f after the end", (heap()-before)/n)
		require.Less(t, (heap()-before)/n, 100.0)
	})
}
