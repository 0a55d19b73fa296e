package firmware_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// deaf makes a device deaf: it can register and gets answers, but no request reaches it.
func (w *world) deaf(host string) {
	w.net.SetLink(serverHost, netip.MustParseAddr(host), simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		method, _ := requestOf(p)
		return method != ""
	}})
}

// TestInventoryAmongSilent registers devices of which a third never answers: the others are read
// soon.
func TestInventoryAmongSilent(t *testing.T) {
	for name, silent := range map[string]func(i int) bool{
		"mixed": func(i int) bool { return i%3 == 0 }, "first": func(i int) bool { return i < 100 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{Inventory: true, Parallel: 8}, func(w *world) {
				const fleet = 300
				for i := range fleet {
					host := fmt.Sprintf("10.1.%d.%d", i/200, i%200+1)
					if silent(i) {
						w.deaf(host)
					}
					w.deviceNamed(fmt.Sprint("device-", i), host, good())
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Minute)
				for i := range fleet {
					d, err := w.mgr.Device(w.ctx, fmt.Sprint("device-", i))
					require.NoError(t, err)
					if !silent(i) {
						require.Equal(t, oldFW, d.Firmware.Version, "device %d", i)
					}
				}
			})
		})
	}
}

// TestUpdatesAmongSilent updates a fleet of which half does not answer, with few places: the others
// are updated soon.
func TestUpdatesAmongSilent(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Parallel: 8, Silent: 50}, func(w *world) {
		const fleet = 400
		var ids []string
		for i := range fleet {
			host := fmt.Sprintf("10.1.%d.%d", i/200, i%200+1)
			if i%2 == 0 {
				w.deaf(host)
			}
			script := good()
			if i%4 == 1 {
				script.Delivery = fsm.PushOnly
			}
			w.deviceNamed(fmt.Sprint("device-", i), host, script)
		}
		time.Sleep(10 * time.Second)
		before := runtime.NumGoroutine()
		began := time.Now()
		for i := range fleet {
			r := w.request()
			r.Endpoint = fmt.Sprint("device-", i)
			ids = append(ids, w.begin(r).ID)
		}
		most := 0
		for time.Since(began) < 5*time.Minute {
			time.Sleep(time.Second)
			most = max(most, runtime.NumGoroutine())
		}
		require.Less(t, most-before, 800, "goroutines, those of the devices included")
		var last time.Duration
		for i, id := range ids {
			u, err := w.mgr.Get(w.ctx, id)
			require.NoError(t, err)
			if i%2 == 0 {
				require.True(t, u.Active())
				continue
			}
			require.Equal(t, fsm.OutcomeSucceeded, u.Machine.Outcome, w.journal(id))
			last = max(last, u.Machine.Ended.Sub(u.Created))
		}
		t.Logf("the last one after %s", last)
		require.Less(t, last, 3*time.Minute)
	})
}
