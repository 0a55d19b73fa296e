package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// toAction answers reads with p, and lets time pass, until an action of that kind is under way.
func (h *hand) toAction(t *testing.T, kind fsm.ActionKind, p picture) {
	t.Helper()
	for range 200 {
		switch doing := h.update.Doing().Kind; doing {
		case kind:
			return
		case fsm.ActionNone:
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		case fsm.ActionRead, fsm.ActionObserve:
			h.done(fsm.CodeContent, h.shows(p))
		default:
			h.done(fsm.CodeChanged, fsm.Reading{})
		}
	}
	require.Fail(t, "no such action", "%s: %s, %s", kind, h.update.Phase, h.update.Wait.Reason)
}

// lapse lets time pass, with unanswered actions, until the update ends, and returns how long that
// took.
func (h *hand) lapse() time.Duration {
	from := h.now
	for h.update.Active() {
		if h.update.Doing().Kind != fsm.ActionNone {
			h.done(fsm.CodeNone, fsm.Reading{})
			continue
		}
		h.now = h.update.Wake()
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	}
	return h.now.Sub(from)
}

// TestSilence: any message of the device ends its silence; a time-out after that is not
// connection_lost.
func TestSilence(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000, Deadline: 20 * time.Minute}
	reading := func() *hand {
		h := transferring(plan)
		h.toAction(t, fsm.ActionRead, downloading)
		return h
	}
	refused := func(code fsm.Code) fsm.Reading {
		return fsm.Reading{State: fsm.Refused[fsm.State](code), Version: fsm.Refused[string](code)}
	}
	for name, tt := range map[string]struct {
		begin  func() *hand
		then   fsm.Observation
		silent bool
	}{
		"nothing":    {reading, fsm.Observation{Kind: fsm.ObserveTimer}, true},
		"heard":      {reading, fsm.Observation{Kind: fsm.ObserveHeard}, false},
		"busy":       {reading, fsm.Observation{Kind: fsm.ObserveBusy}, false},
		"queued":     {reading, fsm.Observation{Kind: fsm.ObserveSent}, true},
		"progress":   {reading, fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 10}, false},
		"hint":       {reading, fsm.Observation{Kind: fsm.ObserveHint}, false},
		"awake":      {reading, fsm.Observation{Kind: fsm.ObserveAwake}, false},
		"updated":    {reading, fsm.Observation{Kind: fsm.ObserveUpdated}, false},
		"registered": {reading, fsm.Observation{Kind: fsm.ObserveRegistered}, false},
		"resumed":    {reading, fsm.Observation{Kind: fsm.ObserveResumed, Online: true}, false},
		"away":       {reading, fsm.Observation{Kind: fsm.ObserveAway}, true},
		"read, unanswered": {
			reading, fsm.Observation{Kind: fsm.ObserveDone}, true,
		},
		"read, refused": {
			reading, fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeContent, Reading: refused(fsm.CodeServiceUnavailable)}, false,
		},
		"observe, unanswered": {func() *hand { return observing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone}, true},
		"observe, refused": {
			func() *hand { return observing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeNotFound}, false,
		},
		"write, unanswered": {func() *hand { return writing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone}, true},
		"write, answered":   {func() *hand { return writing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeChanged}, false},
		"write, busy":       {func() *hand { return writing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone, Code: fsm.CodeServiceUnavailable}, false},
		"push, progress":    {func() *hand { return pushing(t, plan) }, fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 10}, false},
		"push, heard":       {func() *hand { return pushing(t, plan) }, fsm.Observation{Kind: fsm.ObserveHeard}, false},
		"push, broken off":  {func() *hand { return pushing(t, plan) }, fsm.Observation{Kind: fsm.ObserveDone}, true},
	} {
		h := tt.begin()
		h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: h.update.Doing().ID})
		tt.then.Action = h.update.Doing().ID
		h.step(tt.then)
		h.now = h.update.Deadline
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		want := fsm.ResultUpdateFailed
		if tt.silent {
			want = fsm.ResultConnectionLost
		}
		require.Equal(t, fsm.ReasonDeadline, h.update.Reason, name)
		require.Equal(t, want, h.update.Result, name)
	}
}

// observing takes an update to the Observe of its transfer.
func observing(t *testing.T, plan fsm.Plan) *hand {
	h := transferring(plan)
	h.toAction(t, fsm.ActionObserve, downloading)
	return h
}

// writing takes an update to the write of its Package URI.
func writing(t *testing.T, plan fsm.Plan) *hand {
	h := started(plan)
	h.toAction(t, fsm.ActionWriteURI, idle)
	return h
}

// TestSilentTwice: the time of a silence counts from its beginning.
func TestSilentTwice(t *testing.T) {
	h := pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
	id := h.update.Doing().ID
	for range 3 {
		h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: id})
		h.now = h.now.Add(6 * time.Second)
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		require.Empty(t, h.journal())
	}
	require.Equal(t, 20*time.Second-18*time.Second, h.update.Wake().Sub(h.update.Now()))
	h.now = h.update.Wake()
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, "device_silent: the device has not answered for 20s; the server repeats the block\n", h.journal())
	h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: id})
	require.Empty(t, h.journal())
	h.step(fsm.Observation{Kind: fsm.ObserveHeard, Action: id})
	require.Equal(t, "device_answers: the device answers again; the server continues the push\n", h.journal())
	h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: id})
	h.step(fsm.Observation{Kind: fsm.ObserveHeard, Action: id})
	require.Empty(t, h.journal(), "what was not told needs no end")
	h.step(fsm.Observation{Kind: fsm.ObserveQueued, Action: id})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
	require.Equal(t, fsm.WhoseDevice, h.update.Wait.Whose, "it is in no queue any more")
}

// TestOnlySleepIsFree: when a device sleeps while it restarts, exactly the time asleep does not
// count.
func TestOnlySleepIsFree(t *testing.T) {
	restarting := func() *hand {
		h := executed(fsm.Plan{Target: newVersion, Deadline: 1000 * time.Hour}, oldVersion)
		h.step(fsm.Observation{Kind: fsm.ObserveUpdated, Queue: true, Lifetime: 10 * time.Hour})
		h.reads(updating)
		require.Equal(t, fsm.PhaseRestarting, h.update.Phase)
		return h
	}
	pass := func(h *hand, d time.Duration, o ...fsm.Observation) {
		h.now = h.now.Add(d)
		for _, o := range o {
			h.step(o)
		}
	}
	asleep, awake := fsm.Observation{Kind: fsm.ObserveAsleep}, fsm.Observation{Kind: fsm.ObserveAwake}
	away := fsm.Observation{Kind: fsm.ObserveAway}

	h := restarting()
	pass(h, 10*time.Minute, asleep)
	pass(h, 20*time.Minute, asleep)
	pass(h, 20*time.Minute, awake)
	require.Equal(t, 50*time.Minute, h.lapse())

	h = restarting()
	pass(h, 10*time.Minute, asleep)
	pass(h, 0, awake)
	pass(h, 10*time.Minute, fsm.Observation{Kind: fsm.ObserveResumed, Online: true, Queue: true, Lifetime: 10 * time.Hour})
	require.Equal(t, 50*time.Minute, h.lapse(), "only the time without a server is free")

	h = restarting()
	pass(h, 10*time.Minute, asleep)
	pass(h, 10*time.Minute, awake)
	pass(h, 10*time.Minute, asleep)
	pass(h, 10*time.Minute, awake)
	require.Equal(t, 40*time.Minute, h.lapse(), "each sleep counts from its own beginning")

	h = restarting()
	pass(h, 10*time.Minute, away)
	pass(h, 10*time.Minute, awake)
	require.Equal(t, 40*time.Minute, h.lapse(), "a device that was away was not asleep")
}

// TestWaitingCounts: the time before the first registration counts if Limits.Waiting is set.
func TestWaitingCounts(t *testing.T) {
	for limit, want := range map[time.Duration]time.Duration{0: 24 * time.Hour, 1: 1, time.Hour: time.Hour, 30 * time.Hour: 24 * time.Hour} {
		h := &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Waiting: limit}}, epoch)}
		require.Equal(t, "device to register", h.update.Wait.Reason, "from the start")
		h.step(fsm.Observation{Kind: fsm.ObserveStarted})
		require.Equal(t, want, h.lapse())
		require.Equal(t, want == limit, h.update.Reason == fsm.ReasonPhaseLimit)
		require.Equal(t, fsm.ResultConnectionLost, h.update.Result)
	}
	h := &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Waiting: time.Hour}}, epoch)}
	h.step(fsm.Observation{Kind: fsm.ObserveStarted})
	h.step(fsm.Observation{Kind: fsm.ObserveAwake})
	require.Equal(t, fsm.PhasePreparing, h.update.Phase)
	require.False(t, h.actions.Persist, "after a crash, the device is known to be there")
	require.Equal(t, fsm.ActionRead, h.update.Doing().Kind, "it is looked at")
	h.step(fsm.Observation{Kind: fsm.ObserveAway})
	require.Equal(t, 24*time.Hour, h.lapse(), "an absence after that does not count")
}

// TestGraceAfterRestart: no limit ends an update for two minutes after a restart of the server,
// unless the device is read before.
func TestGraceAfterRestart(t *testing.T) {
	resumed := func(online bool) *hand {
		h := transferring(fsm.Plan{Target: newVersion, Deadline: time.Hour})
		h.now = h.update.Deadline.Add(-time.Minute)
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		h.now = h.update.Deadline.Add(4 * time.Minute)
		h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: online})
		require.True(t, h.update.Active())
		return h
	}
	h := resumed(false)
	require.Equal(t, "device to come back", h.update.Wait.Reason)
	require.Equal(t, h.now.Add(2*time.Minute), h.update.Wake())
	h.now = h.now.Add(2*time.Minute - 1)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.True(t, h.update.Active())
	h.now = h.now.Add(1)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ReasonDeadline, h.update.Reason)
	require.Equal(t, fsm.ResultConnectionLost, h.update.Result)

	h = resumed(true)
	h.reads(downloading)
	require.Equal(t, fsm.ReasonDeadline, h.update.Reason, "it was read")
	h = resumed(true)
	h.reads(picture{fsm.State(43), 0, oldVersion, false})
	require.Equal(t, fsm.ReasonDeadline, h.update.Reason, "it was read, though it makes no sense")
	h = resumed(true)
	h.reads(picture{fsm.Idle, 0, newVersion, false})
	require.Equal(t, fsm.ReasonVersion, h.update.Reason, "it had succeeded meanwhile")
}

// TestResumedPresence: after a restart the device's presence is that of its registration, and the
// device is read from the beginning.
func TestResumedPresence(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	h.step(fsm.Observation{Kind: fsm.ObserveAsleep})
	require.Equal(t, "sleeping device to wake", h.update.Wait.Reason)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed})
	require.Equal(t, "device to come back", h.update.Wait.Reason)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
	require.Equal(t, fsm.ActionRead, h.update.Doing().Kind)

	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveResumed})
	require.Equal(t, fsm.PhaseRestarting, h.update.Phase)
	require.Equal(t, "device to restart and register", h.update.Wait.Reason)

	// Failures and polls of the old registration do not count for the new one.
	for _, kind := range []fsm.ObservationKind{fsm.ObserveRegistered, fsm.ObserveResumed} {
		h = transferring(fsm.Plan{Target: newVersion})
		for range 4 {
			h.reads(downloading)
		}
		h.step(fsm.Observation{Kind: kind, Online: true})
		h.done(fsm.CodeNone, fsm.Reading{})
		require.Equal(t, "device to answer a read", h.update.Wait.Reason)
		require.Equal(t, h.now.Add(5*time.Second), h.update.Wake())
		h.now = h.update.Wake()
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		h.done(fsm.CodeContent, h.shows(downloading))
		require.Equal(t, fsm.ActionObserve, h.update.Doing().Kind)
		h.done(fsm.CodeContent, h.shows(downloading))
		require.Equal(t, h.now.Add(5*time.Second), h.update.Wake(), "the first of the pauses")
	}
}
