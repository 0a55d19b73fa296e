package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// failing takes an update to the pause before its next attempt, and returns the pause.
func failing(t *testing.T, u *fsm.Update, now time.Time) time.Duration {
	o := fsm.Observation{Kind: fsm.ObserveStarted, At: now, Online: true}
	written := false
	for range 20 {
		next, actions := u.Step(o)
		*u = next
		if pause := u.RetryAt().Sub(u.Now()); pause > 0 {
			return pause
		}
		o = fsm.Observation{Kind: fsm.ObserveDone, At: u.Now(), Action: actions.Do.ID, Code: fsm.CodeChanged}
		switch actions.Do.Kind {
		case fsm.ActionNone:
			o = fsm.Observation{Kind: fsm.ObserveTimer, At: u.Wake()}
		case fsm.ActionWriteURI:
			written = true
		case fsm.ActionRead:
			o.Reading = fsm.Reading{
				State: fsm.Known(fsm.Idle), Result: fsm.Known(fsm.ResultDefault), Version: fsm.Known("1.0.0"),
				Offers: []fsm.Protocol{fsm.ProtocolCoAP},
			}
			if written {
				o.Reading.Result = fsm.Known(fsm.ResultConnectionLost)
			}
		}
	}
	require.Fail(t, "no pause")
	return 0
}

// TestFleetSpreads makes the first attempts of a thousand updates fail at the same moment: the
// second ones are spread evenly over half the pause.
func TestFleetSpreads(t *testing.T) {
	const fleet, slots = 1000, 10
	const retry = 15 * time.Second
	var at [slots]int
	for i := range fleet {
		created := epoch.Add(time.Duration(i) * time.Millisecond)
		u := fsm.NewUpdate(fsm.Plan{Target: "2.0.0"}, created)
		pause := failing(t, &u, epoch.Add(time.Hour))
		require.GreaterOrEqual(t, pause, retry)
		require.LessOrEqual(t, pause, retry+retry/2)
		at[min(int((pause-retry)*slots/(retry/2)), slots-1)]++

		again := fsm.NewUpdate(fsm.Plan{Target: "2.0.0"}, created)
		require.Equal(t, pause, failing(t, &again, epoch.Add(2*time.Hour)), "by the update alone")
	}
	for _, n := range at {
		require.Greater(t, n, fleet/slots/2, "%v", at)
	}
}
