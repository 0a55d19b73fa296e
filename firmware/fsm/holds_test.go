package fsm_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestLostOnHold: a device that loses its package while the update is held gets it again, unless
// its Result rules that out.
func TestLostOnHold(t *testing.T) {
	final := map[fsm.Result]bool{1: true, 2: true, 5: true, 6: true, 7: true, 9: true}
	for result := fsm.Result(0); result < 15; result++ {
		h := transferring(fsm.Plan{Target: newVersion, Size: 1000, Attempts: 1})
		h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "operator"}})
		h.reads(downloaded)
		require.True(t, h.actions.Holds, "the fact is to be stored")
		require.Contains(t, h.lines(), fsm.EventExecuteHeld)
		h.reads(picture{fsm.Idle, result, oldVersion, false})
		waits := h.update.Active() && h.update.Wake().Sub(h.now) == time.Hour && h.update.RetryAt().IsZero()
		require.Equal(t, final[result], !waits, "%s: %s", result, h.journal())
		if !final[result] {
			h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "operator"}})
			h.reads(picture{fsm.Idle, result, oldVersion, false})
			require.Contains(t, h.journal(), "the device lost the package while the update was held; this is not counted")
		}
	}
}

// TestHoldsAreExact: the deadline moves by exactly the time on hold.
func TestHoldsAreExact(t *testing.T) {
	hold := func(h *hand, holder string, until time.Duration) {
		o := fsm.Hold{Holder: holder}
		if until > 0 {
			o.Until = epoch.Add(until)
		}
		h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: o})
	}
	at := func(h *hand, d time.Duration) time.Duration {
		h.now = epoch.Add(d)
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		return h.update.Deadline.Sub(epoch) - 24*time.Hour
	}
	away := func() *hand {
		h := &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch)}
		h.step(fsm.Observation{Kind: fsm.ObserveStarted})
		return h
	}
	h := away()
	hold(h, "a", 0)
	require.Equal(t, time.Duration(1), at(h, 1))
	h = away()
	hold(h, "a", time.Hour)
	require.Equal(t, time.Hour, at(h, 5*time.Hour))
	h = away()
	hold(h, "a", 3*time.Hour)
	hold(h, "b", time.Hour)
	require.Equal(t, 3*time.Hour, at(h, 5*time.Hour))
	require.Empty(t, h.update.Holds)
	h = away()
	hold(h, "a", time.Hour)
	hold(h, "b", 0)
	require.Equal(t, 5*time.Hour, at(h, 5*time.Hour))
	require.Len(t, h.update.Holds, 1)
	for i := range 15 {
		hold(h, fmt.Sprint(i), 0)
	}
	require.Len(t, h.update.Holds, 16)
	hold(h, "b", 9*time.Hour) // the first in the slice
	require.Equal(t, epoch.Add(9*time.Hour), h.update.Holds[0].Until, "there is room for the same one")

	// An update held from the start, in any time zone.
	u := fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch.In(time.FixedZone("", 3600)), fsm.Hold{Holder: "a"}, fsm.Hold{}, fsm.Hold{Holder: "b"})
	require.Len(t, u.Holds, 2)
	require.Equal(t, epoch, u.Created)
	require.Equal(t, epoch, u.Holds[0].Since)

	// A hold ends the settle wait that it interrupts.
	h = transferring(fsm.Plan{Target: newVersion})
	h.reads(idle)
	require.Contains(t, h.update.Wait.Reason, "second look")
	hold(h, "a", 0)
	h.reads(downloaded)
	h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "a"}})
	require.Equal(t, "device to be read", h.update.Wait.Reason)

	// A device that installs by itself is read while a hold bars it, and is no longer barred
	// afterwards.
	h = started(fsm.Plan{Target: newVersion})
	h.auto = true
	hold(h, "a", 0)
	h.reads(idle)
	require.Equal(t, time.Hour, h.update.Wake().Sub(h.now))
	h.toAction(t, fsm.ActionRead, idle)
	h.reads(idle)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "a"}})
	h.toAction(t, fsm.ActionWriteURI, idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	hold(h, "a", 0)
	h.reads(downloading)
	require.Equal(t, "download to finish", h.update.Wait.Reason)
}
