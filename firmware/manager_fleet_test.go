package firmware_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/storetest"
)

// TestFollowers has a thousand readers follow the events of an update. Each sees all lines, once
// and in order, and the store is not read a thousand times for each line.
func TestFollowers(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var queries atomic.Int64
		w.restart(func(_ context.Context, call storetest.Call) error {
			if call.Method == "Events" {
				queries.Add(1)
			}
			return nil
		}, nil)
		w.device(firmwaretest.Script{Version: oldFW, Delivery: fsm.PushOnly,
			Install: firmwaretest.Install{Version: newFW, Time: time.Second, BootTime: time.Second}})
		const followers = 1000
		var wg sync.WaitGroup
		var mu sync.Mutex
		seen := map[string]int{}
		for range followers {
			wg.Go(func() {
				var seqs []uint64
				for e, err := range w.mgr.Events(w.ctx, 0) {
					require.NoError(t, err)
					if e.Name != firmware.EventProgress {
						seqs = append(seqs, e.Seq)
					}
					if e.Outcome != fsm.OutcomeNone {
						break
					}
				}
				mu.Lock()
				defer mu.Unlock()
				seen[fmt.Sprint(seqs)]++
			})
		}
		time.Sleep(time.Second)
		require.LessOrEqual(t, queries.Load(), int64(followers+10), "to begin with")
		queries.Store(0)
		u := w.update(w.request())
		wg.Wait()
		require.Len(t, seen, 1, "all see the same")
		lines := 0
		for range w.mgr.Journal(w.ctx, u.ID) {
			lines++
		}
		require.Less(t, queries.Load(), int64(4*lines))
		from := func(seq uint64) (seqs []uint64) {
			ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
			defer cancel()
			for e, err := range w.mgr.Events(ctx, seq) {
				require.NoError(t, err)
				seqs = append(seqs, e.Seq)
			}
			return seqs
		}
		late := from(0)
		for first := range seen { // each stops at the first line with an outcome
			require.True(t, strings.HasPrefix(fmt.Sprint(late), strings.TrimSuffix(first, "]")), "%s, later %d", first, late)
		}
		require.Equal(t, late[3:], from(late[2]), "one who goes on")
		for _, err := range w.mgr.Events(w.ctx, 1<<63) {
			require.ErrorIs(t, err, firmware.ErrPosition, "one who is ahead of all")
		}
		w.restart(nil, nil)
		require.Equal(t, late, from(0), "after a restart")
		t.Logf("%d lines, %d queries", lines, queries.Load())
	})
}

// TestPushesDoNotHoldBackReads pushes to a device on a slow line, with a limit of one request and
// one push at a time. Meanwhile a device that pulls is updated, and another push waits for longer
// than a push may stand still, without timing out.
func TestPushesDoNotHoldBackReads(t *testing.T) {
	config := firmware.ManagerConfig{Parallel: 1, Limits: fsm.Limits{Transferring: time.Minute}}
	inWorld(t, config, func(w *world) {
		good := firmwaretest.Install{Version: newFW}
		start := func(name, host string, delay time.Duration, script firmwaretest.Script) string {
			script.Version, script.Install = oldFW, good
			w.deviceNamed(name, host, script)
			time.Sleep(time.Second)
			w.net.SetLink(netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr(host), simnet.Conditions{Delay: delay})
			u, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: name, Image: w.image.ID})
			require.NoError(t, err)
			return u.ID
		}
		slow := start("slow", "10.0.1.1", 20*time.Second, firmwaretest.Script{Delivery: fsm.PushOnly})
		transferring := func() bool {
			u, err := w.mgr.Get(w.ctx, slow)
			require.NoError(t, err)
			return u.Machine.Phase == fsm.PhaseTransferring
		}
		for !transferring() {
			time.Sleep(time.Second)
		}
		patient := start("patient", "10.0.1.2", 0, firmwaretest.Script{Delivery: fsm.PushOnly})
		quick := start("quick", "10.0.1.3", 0, firmwaretest.Script{})
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(quick, time.Minute).Machine.Outcome)
		require.True(t, transferring(), w.journal(slow))
		for _, id := range []string{slow, patient} {
			u := w.wait(id, time.Hour)
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(id))
			require.Equal(t, 1, u.Machine.Attempt, w.journal(id))
		}
	})
}

// TestInventory registers a fleet at once: each device is read, a few at a time.
func TestInventory(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Inventory: true, Parallel: 8}, func(w *world) {
		const fleet = 100
		var c commits
		w.restart(c.note, nil)
		before := runtime.NumGoroutine()
		for i := range fleet {
			w.deviceNamed(fmt.Sprintf("device-%d", i), fmt.Sprintf("10.1.0.%d", i+1), firmwaretest.Script{Version: oldFW})
		}
		time.Sleep(time.Minute)
		require.LessOrEqual(t, len(c.take()), fleet/10, "many devices share a commit")
		require.Less(t, runtime.NumGoroutine()-before, fleet*8, "of the devices themselves, mostly")
		for i := range fleet {
			d, err := w.mgr.Device(w.ctx, fmt.Sprintf("device-%d", i))
			require.NoError(t, err)
			require.Equal(t, oldFW, d.Firmware.Version, "device %d", i)
		}
	})
}

// TestIdleUpdate limits the cost of an update that waits for its device: some memory, and no
// goroutine.
func TestIdleUpdate(t *testing.T) {
	const n = 5000
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		for i := range n {
			_, err := w.mgr.Start(w.ctx, firmware.Request{Endpoint: fmt.Sprint("device-", i), Image: w.image.ID})
			require.NoError(t, err)
		}
		stored := heap()
		w.start(w.db)
		for w.mgr.Runs() < n {
			require.Less(t, runtime.NumGoroutine(), 1000, "while they are loaded")
			runtime.Gosched()
		}
		time.Sleep(5 * time.Second) // goroutines wait for more work for a while
		require.Equal(t, n, w.mgr.Runs())
		require.Less(t, runtime.NumGoroutine(), 100)
		perUpdate := (heap() - stored) / n
		t.Logf("%d bytes", perUpdate)
		require.LessOrEqual(t, perUpdate, int64(3<<10))
	})
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestInventoryCatchesUp registers a device while no inventory runs, and then starts a manager with
// one.
func TestInventoryCatchesUp(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.device(firmwaretest.Script{Version: oldFW})
		known := func() string {
			d, err := w.mgr.Device(w.ctx, endpoint)
			if err != nil {
				return ""
			}
			return d.Firmware.Version
		}
		time.Sleep(5 * time.Second)
		require.Empty(t, known())
		_, err := w.db.Device(w.ctx, endpoint)
		require.NoError(t, err, "it has registered")
		w.stop()
		w.openImages(w.db)
		w.config.Inventory = true
		w.start(w.db)
		time.Sleep(5 * time.Second) // less than the time until the device sends something again
		require.Equal(t, oldFW, known())
	})
}
