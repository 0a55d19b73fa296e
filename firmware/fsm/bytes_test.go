package fsm_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A restart of the server may lose the count; the device's State restores it.
func TestBytesAreProven(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000}
	for name, tt := range map[string]struct {
		shows picture
		want  int64
	}{
		"downloading": {picture{fsm.Downloading, 0, oldVersion, false}, 500},
		"downloaded":  {picture{fsm.Downloaded, 0, oldVersion, false}, 1000},
		"new version": {picture{fsm.Idle, 0, newVersion, false}, 1000},
		"bad package": {picture{fsm.Idle, fsm.ResultIntegrityFailed, oldVersion, false}, 500},
	} {
		t.Run(name, func(t *testing.T) {
			h := transferring(plan)
			h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 500})
			require.EqualValues(t, 500, h.update.Bytes)
			h.until(tt.shows)
			require.Equal(t, tt.want, h.update.Bytes)
		})
	}

	h := started(plan)
	h.until(picture{fsm.Idle, 0, newVersion, false})
	require.Equal(t, fsm.OutcomeSucceeded, h.update.Outcome)
	require.Zero(t, h.update.Bytes, "it ran the version before")
}
