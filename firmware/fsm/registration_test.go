package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestMissedRegistration: if the update missed a registration, the restart of the server makes up
// for it once, provided that it is newer than what was begun.
func TestMissedRegistration(t *testing.T) {
	const during, after = "registered: the device registered during the transfer\n", "registered: the device registered after the server sent Execute\n"
	plan := fsm.Plan{Target: newVersion}
	written := func() (h *hand, at time.Time) {
		h = started(plan)
		h.now = h.now.Add(time.Minute)
		h.toAction(t, fsm.ActionWriteURI, idle)
		at = h.now
		h.done(fsm.CodeChanged, fsm.Reading{})
		return h, at
	}
	execute := func() (h *hand, wrote, at time.Time) {
		h, wrote = written()
		h.toAction(t, fsm.ActionExecute, downloaded)
		at = h.now
		h.done(fsm.CodeChanged, fsm.Reading{})
		return h, wrote, at
	}
	resumed := func(h *hand, registered time.Time) string {
		h.now = h.now.Add(time.Minute)
		h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true, Registered: registered})
		said := ""
		for _, e := range h.actions.Journal {
			if e.Event == "registered" {
				said += e.Event + ": " + e.Detail + "\n"
			}
		}
		return said
	}
	require.Empty(t, resumed(started(plan), epoch.Add(time.Hour)), "nothing was begun")
	h, at := written()
	require.Empty(t, resumed(h, at))
	require.Equal(t, during, resumed(h, at.Add(1)))
	require.Empty(t, resumed(h, at.Add(2)), "once")
	h, wrote, at := execute()
	require.Greater(t, at.Sub(wrote), time.Second)
	require.Empty(t, resumed(h, at))
	require.Equal(t, fsm.PhaseExecuting, h.update.Phase)
	require.Equal(t, after, resumed(h, at.Add(1)))
	require.Equal(t, fsm.PhaseVerifying, h.update.Phase)
	require.Empty(t, resumed(h, at.Add(2)), "once")
	h, _ = written()
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	require.Contains(t, h.journal(), during)
	require.Empty(t, resumed(h, h.now), "the update knows it")
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	require.Contains(t, h.journal(), during)
}

// TestRestartsAreFree: a failed attempt that a restart of the server interrupted does not count,
// however often that happens.
func TestRestartsAreFree(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion, Attempts: 1, Deadline: 1000 * time.Hour})
	for n := range 10 {
		require.Equal(t, n+1, h.update.Attempt)
		h.step(fsm.Observation{Kind: fsm.ObserveResumed, Online: true})
		h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
		require.True(t, h.update.Active(), "%s", h.update.Reason)
		require.LessOrEqual(t, h.update.RetryAt().Sub(h.now), 23*time.Second, "the pause does not grow")
		h.toAction(t, fsm.ActionWriteURI, idle)
		h.done(fsm.CodeChanged, fsm.Reading{})
	}
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Equal(t, fsm.ReasonAttempts, h.update.Reason, "this one is the device's")
}

// TestSettlesAgain: what a device showed before it registered again does not count for the settle
// wait afterwards, neither in a transfer nor in an installation.
func TestSettlesAgain(t *testing.T) {
	settle := func(h *hand, p picture, wait time.Duration) {
		h.reads(p)
		require.Contains(t, h.update.Wait.Reason, "second look")
		require.Equal(t, h.now.Add(wait), h.update.Wait.Until)
	}
	h := transferring(fsm.Plan{Target: newVersion})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 10})
	h.reads(downloading)
	settle(h, idle, time.Minute) // the device no longer shows its download
	h.now = h.now.Add(50 * time.Second)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	settle(h, idle, time.Minute)

	// The text of the wait is the same before and after.
	for _, code := range []fsm.Code{fsm.CodeNone, fsm.CodeBadRequest} {
		h = pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
		h.done(code, fsm.Reading{})
		settle(h, downloading, time.Minute)
		h.now = h.now.Add(50 * time.Second)
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		settle(h, downloading, time.Minute)
		h.now = h.now.Add(50 * time.Second)
		until := h.update.Wait.Until
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		h.reads(downloading)
		require.Equal(t, until, h.update.Wait.Until, "the first registration only, or it would never settle")
	}

	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	settle(h, idle, time.Minute)
	h.now = h.now.Add(50 * time.Second)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	settle(h, idle, time.Minute)
	require.Equal(t, fsm.PhaseVerifying, h.update.Phase)
	require.Contains(t, h.until(idle), "ROLLED_BACK (8), old_version [after 1m0s]")
}

// TestRegistrationIsTakenIn: whichever observation reports queue mode and lifetime, the restart may
// take longer by that lifetime.
func TestRegistrationIsTakenIn(t *testing.T) {
	const lifetime = 7 * time.Hour
	for kind, online := range map[fsm.ObservationKind]bool{
		fsm.ObserveStarted: true, fsm.ObserveResumed: true, fsm.ObserveRegistered: false, fsm.ObserveUpdated: false,
	} {
		for lifetime, want := range map[time.Duration]time.Duration{lifetime: lifetime, 0: 0, -1: 0, 1: 1, 400 * 24 * time.Hour: 365 * 24 * time.Hour} {
			o := fsm.Observation{Kind: kind, Online: online, Queue: true, Lifetime: lifetime}
			plan := fsm.Plan{Target: newVersion, Deadline: 3 * 365 * 24 * time.Hour, Limits: fsm.Limits{Restarting: time.Minute}}
			h := &hand{now: epoch, update: fsm.NewUpdate(plan, epoch)}
			if kind != fsm.ObserveStarted {
				h.step(fsm.Observation{Kind: fsm.ObserveStarted, Online: true})
			}
			h.step(o)
			h.toAction(t, fsm.ActionExecute, idleOrDownloaded(h))
			h.done(fsm.CodeChanged, fsm.Reading{})
			h.step(fsm.Observation{Kind: fsm.ObserveAsleep})
			require.Equal(t, fsm.PhaseRestarting, h.update.Phase)
			require.Equal(t, time.Minute+want, h.lapse(), "%s, %s", kind, lifetime)
			require.Equal(t, fsm.ReasonPhaseLimit, h.update.Reason)
		}
	}
}

// idleOrDownloaded takes an update to its package, and returns what the device then shows.
func idleOrDownloaded(h *hand) picture {
	for h.update.Doing().Kind != fsm.ActionWriteURI {
		h.until(idle)
	}
	h.done(fsm.CodeChanged, fsm.Reading{})
	return downloaded
}
