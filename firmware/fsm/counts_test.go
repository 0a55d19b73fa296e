package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestVersionAfterWrite: if a device shows the target version before an attempt, the version comes
// from this update if something was written, but not if the device had it from the start.
func TestVersionAfterWrite(t *testing.T) {
	lost := picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false}
	for _, delivery := range []fsm.DeliveryMode{fsm.DeliveryPull, fsm.DeliveryPush} {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: delivery})
		h.method = fsm.PushAndPull
		h.until(idle)
		h.done(fsm.CodeChanged, fsm.Reading{})
		h.reads(lost)
		require.False(t, h.update.RetryAt().IsZero())
		h.reads(picture{fsm.Idle, 0, newVersion, false})
		require.Equal(t, fsm.ReasonVersion, h.update.Reason)
	}
	h := started(fsm.Plan{Target: newVersion})
	h.reads(updating)
	h.reads(picture{fsm.Idle, 0, newVersion, false})
	require.Equal(t, fsm.ReasonAlreadyRunning, h.update.Reason, "nothing was written: it was not this update")
	h = started(fsm.Plan{Target: newVersion, Force: true})
	h.toAction(t, fsm.ActionWriteURI, picture{fsm.Idle, 0, newVersion, false})
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, newVersion, false})
	h.toAction(t, fsm.ActionWriteURI, picture{fsm.Idle, 0, newVersion, false})
	require.Equal(t, 2, h.update.Attempt)

	// The journal reports blanks around a version once.
	h = started(fsm.Plan{Target: newVersion})
	padded := picture{fsm.Updating, 0, oldVersion + " ", false}
	h.reads(padded)
	require.Contains(t, h.journal(), `version_trimmed: the device sent 3/0/3 with blanks or a NUL around "`+oldVersion+`"; the server ignores them`)
	h.reads(padded)
	require.Empty(t, h.journal())
	h.reads(picture{fsm.Updating, 0, "", false})
	require.Empty(t, h.journal())
	h.reads(updating)
	require.Empty(t, h.journal())
}

// TestCounts checks the attempt number, the counters, and what each step stores.
func TestCounts(t *testing.T) {
	holds := picture{fsm.Downloaded, 0, oldVersion, true}
	h := started(fsm.Plan{Target: newVersion})
	h.toAction(t, fsm.ActionExecute, holds)
	require.Equal(t, 1, h.update.Attempt, "an adopted package is the first attempt")
	require.True(t, h.actions.Holds)
	h = transferring(fsm.Plan{Target: newVersion})
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	h.toAction(t, fsm.ActionWriteURI, idle)
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	h.toAction(t, fsm.ActionExecute, holds)
	require.Equal(t, 2, h.update.Attempt, "or none of its own")

	// Actions have numbers of their own.
	h = started(fsm.Plan{Target: newVersion})
	ids := map[uint32]bool{0: true}
	for range 6 {
		require.False(t, ids[h.update.Doing().ID])
		ids[h.update.Doing().ID] = true
		require.Equal(t, h.update.Doing(), h.actions.Do)
		h.toAction(t, fsm.ActionRead, idle)
		h.done(fsm.CodeContent, h.shows(updating))
		h.toAction(t, fsm.ActionRead, idle)
	}
	require.False(t, h.actions.Persist, "a look is nothing to store")
	before := h.update
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: before.Doing().ID - 1})
	require.Equal(t, before.Memory, h.update.Memory, "an earlier action")
	h.done(fsm.CodeContent, h.shows(updating))
	h.step(fsm.Observation{Kind: fsm.ObserveDone})
	h.now = h.update.Deadline
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ResultUpdateFailed, h.update.Result, "no action has no end")

	h = transferring(fsm.Plan{Target: newVersion})
	h.step(fsm.Observation{Kind: fsm.ObserveAway})
	h.step(fsm.Observation{Kind: fsm.ObserveResumed})
	h.step(fsm.Observation{Kind: fsm.ObserveAwake})
	require.Equal(t, fsm.ActionRead, h.actions.Do.Kind)
	h = transferring(fsm.Plan{Target: newVersion})
	h.now = h.update.Wake()
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ActionObserve, h.actions.Do.Kind)
	require.False(t, h.actions.Persist, "nor is observing")

	// The first byte starts the transfer. The last one makes the server read, once. For a client
	// that cannot be reset it is a proof, and stored.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress})
	require.Empty(t, h.journal())
	require.Equal(t, fsm.Idle, h.update.State)
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
	require.Equal(t, "transfer_started: the device receives the package\n", h.journal())
	require.Equal(t, fsm.Downloading, h.update.State)
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 999})
	require.False(t, h.actions.Persist)
	require.Equal(t, 3*time.Second, h.update.Wake().Sub(h.now))
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
	require.False(t, h.actions.Persist)
	fixed := transferring(fsm.Plan{Target: newVersion, Size: 1000, Profile: fsm.Profile{Reset: fsm.ResetNone}})
	fixed.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
	require.True(t, fixed.actions.Persist)
	require.Equal(t, 500*time.Millisecond, h.update.Wake().Sub(h.now).Round(100*time.Millisecond))
	h.reads(downloading)
	wake := h.update.Wake()
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
	require.Equal(t, wake, h.update.Wake())
	require.False(t, h.actions.Persist)
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, h.journal(), "the server sent 1000 of 1000 bytes")
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, h.journal(), "the server sent 1 of 1000 bytes")

	// The time of a transfer begins with the answer.
	for _, h := range []*hand{writing(t, fsm.Plan{Target: newVersion, Size: 1000}), pushing(t, fsm.Plan{Target: newVersion, Size: 1000})} {
		h.now = h.now.Add(time.Hour)
		h.done(fsm.CodeChanged, fsm.Reading{})
		require.Equal(t, 2*time.Hour, h.update.Wait.Until.Sub(h.now))
	}

	// A list with unknown or repeated protocols can be stored.
	h = started(fsm.Plan{Target: newVersion})
	h.toAction(t, fsm.ActionRead, idle)
	r := h.shows(updating)
	r.Protocols = fsm.Known([]fsm.Protocol{"ftp", fsm.ProtocolHTTP, fsm.ProtocolHTTP, fsm.ProtocolAuto})
	h.done(fsm.CodeContent, r)
	require.Equal(t, []fsm.Protocol{fsm.ProtocolHTTP}, h.update.Memory.Reading.Listed)
	_, err := h.update.Stored()
	require.NoError(t, err)

	// Failed reads and unusable objects are counted separately.
	h = transferring(fsm.Plan{Target: newVersion})
	h.readsAll(fsm.Reading{})
	h.reads(picture{fsm.State(43), 0, oldVersion, false})
	h.readsAll(fsm.Reading{})
	require.Contains(t, h.journal(), "(1 in a row)")
}

// TestGoingAway: when the device goes away, the action under way is given up; the device is read as
// soon as it is back.
func TestGoingAway(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	h.toAction(t, fsm.ActionRead, downloading)
	h.step(fsm.Observation{Kind: fsm.ObserveAway})
	require.True(t, h.actions.Abandon)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	h.step(fsm.Observation{Kind: fsm.ObserveAwake})
	require.Equal(t, fsm.ActionRead, h.update.Doing().Kind)
	for range 4 {
		h.reads(downloading)
	}
	h.step(fsm.Observation{Kind: fsm.ObserveAsleep})
	require.False(t, h.actions.Abandon)
	h.step(fsm.Observation{Kind: fsm.ObserveAwake})
	require.Equal(t, fsm.ActionRead, h.update.Doing().Kind, "without the pause")

	// When the deadline or a limit finds a success, that ends the read under way.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	trial := picture{fsm.Updating, 0, newVersion, false}
	h.reads(trial)
	require.Equal(t, fsm.PhaseVerifying, h.update.Phase)
	h.toAction(t, fsm.ActionRead, trial)
	h.now = h.now.Add(time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ReasonVersion, h.update.Reason)
	require.True(t, h.actions.Abandon)

	// The device comes back with its old version and no usable object, and then falls silent.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.reads(picture{fsm.State(43), 0, oldVersion, false})
	h.lapse()
	require.Equal(t, fsm.OutcomeRolledBack, h.update.Outcome)
	require.Equal(t, fsm.ReasonOldVersion, h.update.Reason)

	// A timer whose time has passed is due at once.
	h = pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: h.update.Doing().ID})
	h.now = h.now.Add(23400 * time.Millisecond)
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, h.now.Add(1), h.update.Wake())
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Contains(t, h.journal(), "not answered for 23s;")
}
