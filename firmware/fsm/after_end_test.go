package fsm_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestEndedForgets: an update that has ended keeps only what ActionCancel needs.
func TestEndedForgets(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion, Attempts: 2})
	h.reads(picture{fsm.Idle, fsm.ResultIntegrityFailed, oldVersion, false})
	require.Equal(t, fsm.OutcomeFailed, h.update.Outcome)
	var kept []string
	for field, value := range reflect.ValueOf(h.update.Memory).Fields() {
		if !value.IsZero() {
			kept = append(kept, field.Name)
		}
	}
	require.Equal(t, []string{"Clock", "NextID"}, kept)
	require.Equal(t, fsm.Wait{}, h.update.Wait)
	require.True(t, h.update.Wake().IsZero())
	require.Equal(t, h.now, h.update.Ended)
	require.Equal(t, fsm.ActionNone, h.actions.Do.Kind)
}

// TestAfterEnd ends an update whose Execute was under way: State Idle proves something only once no
// copy of the Execute can arrive any more.
func TestAfterEnd(t *testing.T) {
	flying := func() *hand {
		h := transferring(fsm.Plan{Target: newVersion})
		h.toAction(t, fsm.ActionExecute, downloaded)
		h.step(fsm.Observation{Kind: fsm.ObserveCancel})
		require.Equal(t, fsm.ActionCancel, h.update.Doing().Kind)
		return h
	}
	cancellation := func(h *hand, after time.Duration, r fsm.Reading) {
		h.now = h.now.Add(after)
		h.done(fsm.CodeContent, r)
		require.Equal(t, fsm.ActionNone, h.update.Doing().Kind, "it is over")
		require.Equal(t, h.now, h.update.Now())
	}
	h := flying()
	cancellation(h, 247*time.Second-1, idle.reading())
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill)
	h = flying()
	cancellation(h, 247*time.Second, idle.reading())
	require.Equal(t, fsm.MayStillNone, h.update.MayStill)
	require.Equal(t, "after_end: the device shows state idle, version \"1.0.0\" after the end of the update; may still install: none\n", h.journal())
	h = flying()
	cancellation(h, 247*time.Second, fsm.Reading{})
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "it did not answer")
	require.False(t, h.actions.Persist)
	h = flying()
	cancellation(h, 247*time.Second, downloaded.reading())
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill)
	h = flying()
	cancellation(h, 247*time.Second, updating.reading())
	require.Equal(t, fsm.MayStillInstall, h.update.MayStill)

	// The step that ends the update does not begin a reset that is due.
	h = started(fsm.Plan{Target: newVersion, Deadline: time.Hour})
	h.toAction(t, fsm.ActionRead, idle)
	h.now = h.update.Deadline
	h.done(fsm.CodeContent, h.shows(downloaded))
	require.Equal(t, fsm.ReasonDeadline, h.update.Reason)
	require.Equal(t, fsm.ActionNone, h.actions.Do.Kind)
	require.NotContains(t, h.journal(), "reset")
	h = started(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Preparing: time.Minute}})
	h.toAction(t, fsm.ActionRead, idle)
	h.now = h.now.Add(time.Hour)
	h.done(fsm.CodeContent, h.shows(downloaded))
	require.Equal(t, fsm.ReasonPhaseLimit, h.update.Reason)
	require.Equal(t, fsm.ActionNone, h.actions.Do.Kind)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
}
