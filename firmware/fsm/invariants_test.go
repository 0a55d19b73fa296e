package fsm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// idle and the others are pictures that a device shows.
var (
	idle        = picture{fsm.Idle, 0, oldVersion, false}
	downloading = picture{fsm.Downloading, 0, oldVersion, false}
	downloaded  = picture{fsm.Downloaded, 0, oldVersion, false}
	updating    = picture{fsm.Updating, 0, oldVersion, false}
)

// journal returns the lines of the last step.
func (h *hand) journal() string {
	var b strings.Builder
	for _, e := range h.actions.Journal {
		b.WriteString(e.Event + ": " + e.Detail + "\n")
	}
	return b.String()
}

// pushing takes an update to a push that is under way.
func pushing(t *testing.T, plan fsm.Plan) *hand {
	plan.Delivery = fsm.DeliveryPush
	h := started(plan)
	h.method = fsm.PushAndPull
	require.Equal(t, "then push", h.until(idle))
	return h
}

// TestStuckPush pushes into a device that hangs in a transfer: its Downloaded then means this
// package only if the device acknowledged the push to its last block.
func TestStuckPush(t *testing.T) {
	for _, acked := range []bool{true, false} {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush})
		h.method = fsm.PushAndPull
		require.Contains(t, h.until(downloading), "then reset")
		h.done(fsm.CodeChanged, fsm.Reading{})
		require.Equal(t, "then push", h.until(downloading))
		code := fsm.CodeNone
		if acked {
			code = fsm.CodeChanged
		}
		h.done(code, fsm.Reading{})
		said := h.until(downloaded)
		require.Equal(t, acked, strings.HasPrefix(said, "then execute"), "invariant 1: %s", said)
	}
}

// TestAdoptOnce adopts a package by the stored fact. Execute clears the fact, so a second Execute
// needs a transfer.
func TestAdoptOnce(t *testing.T) {
	h := started(fsm.Plan{Target: newVersion})
	holds := picture{fsm.Downloaded, 0, oldVersion, true}
	require.Contains(t, h.until(holds), "then execute")
	require.True(t, h.actions.Persist)
	h.done(fsm.CodeNone, fsm.Reading{})
	said := h.until(downloaded)
	require.NotContains(t, said, "then execute", "invariant 1")
	require.Contains(t, said, "retry")
}

// TestTouched has another request change the object in the middle: what the attempt had proven no
// longer counts.
func TestTouched(t *testing.T) {
	for _, when := range []string{"before the package is there", "while it waits for a hold"} {
		h := started(fsm.Plan{Target: newVersion})
		if when != "before the package is there" {
			h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "operator"}})
		}
		h.until(idle)
		h.done(fsm.CodeChanged, fsm.Reading{})
		if len(h.update.Holds) > 0 {
			h.reads(downloaded)
			require.Equal(t, fsm.PhaseTransferred, h.update.Phase)
		}
		h.step(fsm.Observation{Kind: fsm.ObserveObjectChanged, Detail: "write of /5/0/1"})
		require.Contains(t, h.journal(), "write of /5/0/1")
		h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "operator"}})
		said := h.until(downloaded)
		require.NotContains(t, said, "then execute", "invariant 1: %s", when)
		require.Contains(t, said, "drop another package", when)
	}
}

// TestServerFaults makes the server itself fail: the reason says so, and the journal does not blame
// the device.
func TestServerFaults(t *testing.T) {
	h := pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultImage, Detail: "short by 5 bytes"})
	require.False(t, h.update.Active(), "invariant 3: the image does not get better")
	require.Equal(t, fsm.ReasonImage, h.update.Reason, "invariant 3")
	require.Equal(t, fsm.ResultUpdateFailed, h.update.Result)
	require.Empty(t, h.update.MayStill)
	require.Contains(t, h.journal(), "short by 5 bytes")

	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveServerFault, Fault: fsm.FaultImage})
	require.Equal(t, fsm.ReasonImage, h.update.Reason, "while the device downloads")

	h = executed(fsm.Plan{Target: newVersion, Size: 1000}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveServerFault, Fault: fsm.FaultImage})
	require.True(t, h.update.Active(), "the device has the package")

	h = started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPull})
	require.Equal(t, "then write_uri coap", h.until(idle))
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultURI, Detail: "too long"})
	require.Contains(t, h.journal(), "too long")
	require.Equal(t, "then write_uri http", h.until(idle), "another protocol may do")
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultURI})
	require.Equal(t, fsm.ReasonNotServed, h.update.Reason)
	require.Equal(t, fsm.ResultUnsupProtocol, h.update.Result)

	h = executed(fsm.Plan{Target: newVersion, Size: 1000}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.until(downloaded)
	require.Equal(t, fsm.ActionExecute, h.update.Doing().Kind)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultNotSent})
	require.Contains(t, h.journal(), fsm.EventNotSent)
	require.Equal(t, fsm.ActionNone, h.update.Doing().Kind)
	require.Equal(t, h.now.Add(5*time.Second), h.update.Wake(), "what it rested on is read again")

	// A request that the server did not send is no failure of the device.
	h = started(fsm.Plan{Target: newVersion, Size: 1000, Attempts: 1})
	for range 5 {
		require.Contains(t, h.until(idle), "then write_uri coap")
		h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultNotSent, Detail: "the disk is full"})
		require.Contains(t, h.journal(), "the disk is full")
	}
	require.True(t, h.update.Active())
}

// TestExecuteInFlight cancels an update whose Execute is under way: a device that shows Idle right
// after that can still receive it.
func TestExecuteInFlight(t *testing.T) {
	flying := func() *hand {
		h := started(fsm.Plan{Target: newVersion})
		h.until(idle)
		h.done(fsm.CodeChanged, fsm.Reading{})
		require.Contains(t, h.until(downloaded), "then execute")
		return h
	}
	h := flying()
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	require.True(t, h.actions.Abandon, "invariant 5")
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "invariant 4")
	require.Equal(t, fsm.ActionCancel, h.actions.Do.Kind)
	h.now = h.now.Add(time.Second)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.actions.Do.ID, Reading: idle.reading()})
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "invariant 4: Execute may still arrive")
	require.False(t, h.actions.Persist)

	// Once the exchange of the Execute is over, Idle is proof.
	h = flying()
	h.done(fsm.CodeNone, fsm.Reading{})
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill)
	last := h.update.Doing()
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID + 1, Reading: idle.reading()})
	require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "another action")
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID, Reading: idle.reading()})
	require.Equal(t, fsm.MayStillNone, h.update.MayStill)
	require.True(t, h.actions.Persist)
	require.Contains(t, h.journal(), "after_end: ")
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID, Reading: updating.reading()})
	require.Equal(t, fsm.MayStillNone, h.update.MayStill, "once")

	// A device that is seen updating installs.
	h = flying()
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	require.Equal(t, fsm.MayStillInstall, h.update.MayStill, "it has agreed")
	h = flying()
	h.done(fsm.CodeNone, fsm.Reading{})
	h.step(fsm.Observation{Kind: fsm.ObserveCancel})
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Reading: updating.reading()})
	require.Equal(t, fsm.MayStillInstall, h.update.MayStill, "it does")
}

// TestMayStill cancels in each situation.
func TestMayStill(t *testing.T) {
	cancel := func(h *hand) fsm.MayStill {
		h.step(fsm.Observation{Kind: fsm.ObserveCancel})
		require.Equal(t, fsm.OutcomeCancelled, h.update.Outcome)
		return h.update.MayStill
	}
	away := &hand{now: epoch, update: fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch)}
	away.step(fsm.Observation{Kind: fsm.ObserveStarted})
	require.Equal(t, fsm.MayStillNone, cancel(away))
	require.Equal(t, fsm.MayStillNone, cancel(started(fsm.Plan{Target: newVersion})))
	require.Equal(t, fsm.MayStillNone, cancel(transferring(fsm.Plan{Target: newVersion})))
	require.Equal(t, fsm.MayStillInstall, cancel(executed(fsm.Plan{Target: newVersion}, oldVersion)))

	itself := transferring(fsm.Plan{Target: newVersion})
	itself.reads(updating)
	require.Equal(t, fsm.MayStillInstall, cancel(itself), "it installs by itself")

	lists := started(fsm.Plan{Target: newVersion})
	lists.auto = true
	lists.until(idle)
	lists.done(fsm.CodeChanged, fsm.Reading{})
	require.Equal(t, fsm.MayStillUnknown, cancel(lists), "it says that it would")

	failed := executed(fsm.Plan{Target: newVersion}, oldVersion)
	failed.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Equal(t, fsm.ActionNone, failed.update.Doing().Kind, "it waits for its next attempt")
	require.Equal(t, fsm.MayStillUnknown, cancel(failed), "an earlier Execute")
	last := failed.actions.Do
	require.Equal(t, fsm.ActionCancel, last.Kind)
	failed.step(fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID, Reading: idle.reading()})
	require.Equal(t, fsm.MayStillNone, failed.update.MayStill)
}

// TestQueued has actions wait in the server's queues: that time does not count for the device, and
// the update says so.
func TestQueued(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion, Deadline: 48 * time.Hour})
	h.toAction(t, fsm.ActionRead, idle)
	id := h.update.Doing().ID
	h.step(fsm.Observation{Kind: fsm.ObserveQueued, Action: id + 1})
	require.Equal(t, fsm.WhoseDevice, h.update.Wait.Whose, "another action")
	h.step(fsm.Observation{Kind: fsm.ObserveQueued, Action: id})
	require.Equal(t, fsm.WhoseServer, h.update.Wait.Whose, "invariant 6")
	h.now = h.now.Add(10 * time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.True(t, h.update.Active(), "invariant 6: the time was the server's")
	h.step(fsm.Observation{Kind: fsm.ObserveSent, Action: id})
	require.Equal(t, fsm.WhoseDevice, h.update.Wait.Whose)
	h.now = h.now.Add(3 * time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ReasonPhaseLimit, h.update.Reason, "now it is the device's")
}
