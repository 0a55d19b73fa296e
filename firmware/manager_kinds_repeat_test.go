package firmware_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

// withoutCache is a device that takes only the next block of a push, and recognises no duplicate.
func (w *world) withoutCache(method fsm.DeliverySupport) {
	script := good()
	script.Delivery, script.Habits.LocksInPush = method, true
	script.Pull = w.fetches("10.0.1.1")
	w.device(script)
	time.Sleep(time.Second)
}

// losesContinue loses the device's answers to those blocks of a push for which lost, given their
// number, returns true.
func (w *world) losesContinue(lost func(n int) bool) {
	n := 0
	w.net.SetLink(deviceHost, serverHost, simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(p simnet.Packet) bool {
		if len(p.Data) < 4 || p.Data[1] != 2<<5|31 {
			return false
		}
		n++
		return lost(n)
	}})
}

// TestProfileWithoutCache pushes 40 KB over a link that loses 5 %, to a device without a cache of
// duplicates, whose profile says so: a lost acknowledgement costs a retransmission, not the push.
func TestProfileWithoutCache(t *testing.T) {
	for seed := range uint64(5) {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			w.withoutCache(fsm.PushOnly)
			random := rand.New(rand.NewPCG(seed, 1))
			lossy := simnet.Conditions{Delay: 20 * time.Millisecond, Drop: func(simnet.Packet) bool { return random.Float64() < 0.05 }}
			w.net.SetLink(deviceHost, serverHost, lossy)
			w.net.SetLink(serverHost, deviceHost, lossy)
			img, err := w.images.Add(w.ctx, store.Image{Name: "large", Version: newFW}, bytes.NewReader(make([]byte, 40_000)))
			require.NoError(t, err)
			r := w.request()
			r.Image, r.Delivery, r.Profile = img.ID, fsm.DeliveryPush, "no-duplicate-cache"
			began := time.Now()
			u := w.begin(r)
			w.phase(u.ID, fsm.PhaseExecuting)
			require.Less(t, time.Since(began), 90*time.Second, w.journal(u.ID)) // the push takes less than 60 s of that
			u = w.wait(u.ID, time.Hour)
			w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
			require.Equal(t, "push", w.ways(u.ID), w.journal(u.ID))
		})
	}
}

// TestRepeatedBlockRefused loses an acknowledgement of a device without a cache of duplicates,
// whose profile does not say so. By default the update then pulls. An update that must push pushes
// again, and says why it is so slow or fails.
func TestRepeatedBlockRefused(t *testing.T) {
	const says = "the acknowledgement of a block was lost, and the device refused the block when the server sent it again (5.03)"
	once := func(n int) bool { return n == 3 }
	for _, test := range []struct {
		name     string
		delivery fsm.DeliveryMode
		method   fsm.DeliverySupport
		lost     func(n int) bool
		ways     string
		ok       bool
	}{
		{"auto", fsm.DeliveryAuto, fsm.PushAndPull, once, "push coap", true},
		{"auto, only push", fsm.DeliveryAuto, fsm.PushOnly, once, "push push", true},
		{"push", fsm.DeliveryPush, fsm.PushAndPull, once, "push push", true},
		{"push, each time", fsm.DeliveryPush, fsm.PushAndPull, func(n int) bool { return n%3 == 0 }, "push push", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				w.withoutCache(test.method)
				w.losesContinue(test.lost)
				r := w.request()
				r.Delivery, r.Attempts = test.delivery, 2
				u := w.update(r)
				require.Equal(t, test.ok, u.Machine.Outcome == fsm.OutcomeSucceeded, w.journal(u.ID))
				require.Equal(t, test.ways, w.ways(u.ID), w.journal(u.ID))
				require.Contains(t, w.journal(u.ID), says)
				if test.delivery == fsm.DeliveryAuto && test.method == fsm.PushAndPull {
					require.Contains(t, w.journal(u.ID), "; the device refuses blocks of a push that are sent again")
				}
				if !test.ok {
					require.Regexp(t, "no attempt is left", w.journal(u.ID))
				}
				require.Less(t, u.Changed.Sub(u.Created), 30*time.Minute, w.journal(u.ID))
			})
		})
	}
}
