package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

func TestMismatch(t *testing.T) {
	all := fsm.Compatible{Manufacturer: "Acme", Model: "S1", Hardware: "B"}
	for _, tt := range []struct {
		image, device fsm.Compatible
		want          string
	}{
		{fsm.Compatible{}, fsm.Compatible{}, ""},
		{fsm.Compatible{}, all, ""},
		{all, all, ""},
		{fsm.Compatible{Model: "S1"}, all, ""},
		{all, fsm.Compatible{}, `the image is for manufacturer "Acme", and the device does not report its manufacturer`},
		{fsm.Compatible{Model: "s1"}, all, `the image is for model "s1", and the device reports model "S1"`},
		{fsm.Compatible{Hardware: "B1"}, all, `the image is for hardware "B1", and the device reports hardware "B"`},
	} {
		require.Equal(t, tt.want, tt.image.Mismatch(tt.device))
	}
}

// TestCompatible: nothing is written before the device has said what it is, however long that
// takes, and nothing at all if the image is not made for it.
func TestCompatible(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Compatible: fsm.Compatible{Model: "S1", Hardware: "B"}}
	reads := func(h *hand, device fsm.Field[fsm.Compatible]) {
		t.Helper()
		require.Equal(t, fsm.ActionRead, h.update.Doing().Kind, "invariant 9")
		require.True(t, h.update.Doing().Resources.Has(fsm.ReadDevice), "invariant 9")
		r := h.shows(idle)
		r.Device = device
		h.done(fsm.CodeContent, r)
	}
	h := started(plan)
	for range 9 {
		reads(h, fsm.Field[fsm.Compatible]{})
		require.Equal(t, fsm.ActionNone, h.update.Doing().Kind, "invariant 9: a silent device is asked again")
		require.Equal(t, fsm.WhoseDevice, h.update.Wait.Whose)
		h.now = h.update.Wake()
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	}
	reads(h, fsm.Known(fsm.Compatible{Manufacturer: "Acme", Model: "S1", Hardware: "B"}))
	require.Equal(t, fsm.ActionWriteURI, h.update.Doing().Kind)
	require.True(t, h.update.Active())

	h = started(plan)
	reads(h, fsm.Known(fsm.Compatible{Model: "S1"}))
	require.Equal(t, fsm.ReasonIncompatible, h.update.Reason)
	require.Equal(t, fsm.OutcomeFailed, h.update.Outcome)
	require.Equal(t, fsm.ResultUpdateFailed, h.update.Result)
	require.Equal(t, fsm.ActionNone, h.actions.Do.Kind, "invariant 9")
	require.Contains(t, h.journal(), "the device does not report its hardware")

	// It is incompatible even if it seems to run the target: versions of other models are others.
	h = started(fsm.Plan{Target: oldVersion, Compatible: plan.Compatible})
	reads(h, fsm.Known(fsm.Compatible{Model: "S2", Hardware: "B"}))
	require.Equal(t, fsm.ReasonIncompatible, h.update.Reason)

	// A device that never says what it is gets nothing until the time of the phase is over.
	h = started(plan)
	for end := h.now.Add(24 * time.Hour); h.update.Active(); {
		require.True(t, h.now.Before(end))
		if h.update.Doing().Kind != fsm.ActionNone {
			reads(h, fsm.Field[fsm.Compatible]{})
		}
		if h.update.Active() {
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		}
	}
	require.Equal(t, fsm.ReasonPhaseLimit, h.update.Reason)

	plan.Force = true
	h = started(plan)
	require.False(t, h.update.Doing().Resources.Has(fsm.ReadDevice))
	require.Contains(t, h.until(idle), "then write_uri")
}
