package fsm_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// lines returns the text of the last step's journal.
func (h *hand) lines() []string {
	var events []string
	for _, e := range h.actions.Journal {
		events = append(events, e.Event)
	}
	return events
}

// keeps is a plan for a device that keeps its last Result until the next one: the server does not
// reset it before a transfer.
func keeps() fsm.Plan {
	return fsm.Plan{Target: newVersion, Size: 1000, Profile: fsm.Profile{Reset: fsm.ResetNUL}}
}

// TestSameResultAgain: the device shows the same Result before and after the transfer. If it has
// begun in between, the Result counts as new at once; otherwise only some time after the answer,
// and not at all if nothing shows that the device got the URI.
func TestSameResultAgain(t *testing.T) {
	for result := fsm.ResultSuccess; result <= 13; result++ {
		before := picture{fsm.Idle, result, oldVersion, false}
		begun := func() *hand {
			h := started(keeps())
			h.toAction(t, fsm.ActionWriteURI, before)
			return h
		}
		// The device has begun, as a read or the bytes show.
		for _, bytes := range []bool{true, false} {
			h := begun()
			h.done(fsm.CodeChanged, fsm.Reading{})
			if bytes {
				h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
			} else {
				h.step(fsm.Observation{Kind: fsm.ObserveHint})
				h.reads(picture{fsm.Downloading, 0, oldVersion, false})
			}
			h.step(fsm.Observation{Kind: fsm.ObserveHint})
			h.reads(before)
			require.Less(t, h.now.Sub(epoch), 2*time.Second)
			if result == fsm.ResultSuccess && bytes {
				// A device that had cleared its Result would prove it by its version.
				require.Contains(t, h.update.Wait.Reason, "no longer shows its download")
				continue
			}
			require.NotContains(t, h.update.Wait.Reason, "device to begin", "%s", result)
			require.Equal(t, result, h.update.Reported)
			if result == fsm.ResultSuccess {
				require.Contains(t, h.lines(), fsm.EventAutoUpgrade)
				h.step(fsm.Observation{Kind: fsm.ObserveCancel})
				require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "it installs by itself")
				continue
			}
			require.NotContains(t, h.lines(), fsm.EventSettling, result)
		}
		if result == fsm.ResultSuccess {
			continue // it says nothing about a device that has not begun
		}
		h := begun()
		h.done(fsm.CodeChanged, fsm.Reading{})
		answered := h.now
		h.reads(before)
		require.Equal(t, "device to begin", h.update.Wait.Reason)
		require.Equal(t, answered.Add(5*time.Second), h.update.Wake())
		h.reads(before)
		require.Equal(t, result, h.update.Reported, "now it is one")
		// The Write of the URI is not acknowledged.
		h = begun()
		h.done(fsm.CodeNone, fsm.Reading{})
		h.reads(before)
		require.Zero(t, h.update.Reported, "%s is from before", result)
		require.Contains(t, h.update.Wait.Reason, "seems not to have received the Package URI")
		// The device refuses the URI.
		h = begun()
		h.done(fsm.CodeNotImplemented, fsm.Reading{})
		h.reads(before)
		h.reads(before)
		require.Equal(t, result, h.update.Reported)
		// The Write of the URI is interrupted.
		h = begun()
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		h.reads(before)
		require.Equal(t, "device to begin", h.update.Wait.Reason)
	}
	// After a push into a device that was stuck in another transfer every Result is new.
	for result := fsm.ResultNoStorage; result <= 13; result++ {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush})
		h.method = fsm.PushAndPull
		h.toAction(t, fsm.ActionPush, downloading)
		h.done(fsm.CodeNone, fsm.Reading{})
		h.reads(picture{fsm.Idle, result, oldVersion, false})
		require.Equal(t, result, h.update.Reported)
	}
	// An accepted push shows that the device has begun.
	h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush, Profile: fsm.Profile{Reset: fsm.ResetNUL}})
	h.method = fsm.PushAndPull
	before := picture{fsm.Idle, fsm.ResultIntegrityFailed, oldVersion, false}
	h.toAction(t, fsm.ActionPush, before)
	h.done(fsm.CodeChanged, fsm.Reading{})
	require.EqualValues(t, 1000, h.update.Bytes)
	h.reads(before)
	require.Equal(t, fsm.ReasonDeviceResult, h.update.Reason)
}

// TestNothingToSee: a device that shows neither a package nor a Result gets time, depending on what
// is known of it.
func TestNothingToSee(t *testing.T) {
	plan := fsm.Plan{Target: newVersion, Size: 1000}
	grace := func(d time.Duration) fsm.Plan {
		p := plan
		p.Profile.WriteGrace = d
		return p
	}
	registered, bytes := fsm.Observation{Kind: fsm.ObserveRegistered}, fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1}
	resumed := fsm.Observation{Kind: fsm.ObserveResumed, Online: true}
	push := func(plan fsm.Plan) *hand { return pushing(t, plan) }
	write := func(plan fsm.Plan) *hand { return writing(t, plan) }
	for _, tt := range []struct {
		begin func(plan fsm.Plan) *hand
		plan  fsm.Plan
		code  fsm.Code
		then  []fsm.Observation
		wait  time.Duration
		why   string
	}{
		{write, plan, fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{write, grace(time.Hour), fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{write, plan, fsm.CodeChanged, []fsm.Observation{registered}, time.Minute, "registered again and shows no download"},
		{write, plan, fsm.CodeChanged, []fsm.Observation{bytes, registered}, time.Minute, "registered again and lost its download"},
		{write, plan, fsm.CodeChanged, []fsm.Observation{bytes}, time.Minute, "no longer shows its download"},
		{write, plan, fsm.CodeNone, nil, time.Minute, "seems not to have received the Package URI"},
		{write, grace(time.Hour), fsm.CodeNone, nil, time.Hour, "seems not to have received the Package URI"},
		{write, grace(1), fsm.CodeNone, nil, 1, "seems not to have received the Package URI"},
		{write, plan, fsm.CodeNone, []fsm.Observation{resumed}, 5 * time.Second, "seems not to have received the Package URI"},
		{write, grace(time.Hour), fsm.CodeNone, []fsm.Observation{resumed}, time.Hour, "seems not to have received the Package URI"},
		{push, plan, fsm.CodeNone, nil, time.Minute, "shows nothing of a push that broke off"},
		{push, plan, fsm.CodeNone, []fsm.Observation{resumed}, time.Minute, "shows nothing of a push that broke off"},
		{push, plan, fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{push, grace(time.Hour), fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{push, plan, fsm.CodeChanged, []fsm.Observation{registered}, time.Minute, "registered again and lost its download"},
	} {
		h := tt.begin(tt.plan)
		h.done(tt.code, fsm.Reading{})
		for _, o := range tt.then {
			h.step(o)
		}
		h.reads(idle)
		require.Equal(t, "second look, because the device "+tt.why, h.update.Wait.Reason)
		require.Equal(t, tt.wait, h.update.Wait.Until.Sub(h.now), tt.why)
		require.Contains(t, h.until(idle), "retry: the device "+tt.why)
	}
}

// TestFreeAgain: an attempt that does not count against the limit begins at once, and pauses
// between attempts do not count for a phase.
func TestFreeAgain(t *testing.T) {
	for result, fresh := range map[fsm.Result]bool{fsm.ResultInvalidURI: true, fsm.ResultUnsupProtocol: false} {
		h := transferring(fsm.Plan{Target: newVersion, Size: 1000, Attempts: 1})
		h.reads(picture{fsm.Idle, result, oldVersion, false})
		require.Equal(t, fsm.ActionRead, h.update.Doing().Kind, "%s", result)
		require.NotContains(t, h.journal(), "next attempt in")
		at := h.now
		h.toAction(t, fsm.ActionWriteURI, idle)
		require.Equal(t, at, h.now)
		require.Equal(t, fresh, h.actions.Do.Fresh)
	}
	h := writing(t, fsm.Plan{Target: newVersion, Size: 1000, Attempts: 1})
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultURI})
	require.Equal(t, fsm.ActionRead, h.update.Doing().Kind)
	require.Contains(t, h.journal(), "retry: this server has no Package URI for coap: unknown\n")
	h.toAction(t, fsm.ActionWriteURI, idle)
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Fault: fsm.FaultURI})
	require.Equal(t, fsm.OutcomeFailed, h.update.Outcome)

	lost := picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false}
	h = transferring(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Retry: time.Hour, Preparing: time.Minute}})
	h.reads(lost)
	require.Contains(t, h.journal(), "next attempt in 1h")
	h.toAction(t, fsm.ActionWriteURI, idle)
	require.Equal(t, 2, h.update.Attempt)
	h = transferring(fsm.Plan{Target: newVersion, Limits: fsm.Limits{Retry: 1}})
	h.reads(lost)
	require.Contains(t, h.journal(), "next attempt in 1ns")

	// The next attempt inherits nothing from a wait of the attempt before.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	require.Contains(t, h.until(idle), "then write_uri http [after 5m")
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.reads(idle)
	require.Equal(t, 5*time.Second, h.update.Wake().Sub(h.now))
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.toAction(t, fsm.ActionRead, idle)
	r := h.shows(picture{fsm.Downloaded, fsm.ResultDeferred, oldVersion, false})
	r.MaxDefer = fsm.Field[time.Duration]{}
	h.done(fsm.CodeContent, r)
	require.True(t, h.actions.Do.Resources.Has(fsm.ReadMaxDefer))
	h.done(fsm.CodeContent, h.shows(lost))
	h.toAction(t, fsm.ActionRead, idle)
	require.False(t, h.update.Doing().Resources.Has(fsm.ReadMaxDefer))
	require.True(t, h.update.Doing().Resources.Has(fsm.ReadProtocols|fsm.ReadDelivery|fsm.ReadAuto))
}

// TestRefusals: which codes of a refusal lead to the other way of delivery, and what follows if
// both are refused.
func TestRefusals(t *testing.T) {
	other := map[fsm.Code]bool{0x84: true, 0x85: true, 0x8d: true, 0x8f: true, 0xa0: true, 0xa1: true}
	for code := range 256 {
		code := fsm.Code(code)
		if code == fsm.CodeNone || code.OK() {
			continue
		}
		h := started(fsm.Plan{Target: newVersion, Size: 1000})
		h.method = fsm.PushAndPull
		h.toAction(t, fsm.ActionPush, idle)
		h.done(code, fsm.Reading{})
		h.reads(idle)
		require.Equal(t, other[code], strings.Contains(h.journal(), "the device refused the push ("+code.String()+"); pull by"), "%s: %s", code, h.journal())
		if code == fsm.CodeServiceUnavailable {
			continue
		}
		h = started(fsm.Plan{Target: newVersion, Size: 1000})
		h.method = fsm.PushAndPull
		h.toAction(t, fsm.ActionPush, idle)
		h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
		h.done(code, fsm.Reading{})
		h.reads(idle)
		require.NotContains(t, h.journal(), "pull is tried", "it had taken a part of it")
	}
	h := started(fsm.Plan{Target: newVersion, Size: 1000})
	h.method = fsm.PushAndPull
	var ways []string
	for _, code := range []fsm.Code{fsm.CodeMethodNotAllowed, fsm.CodeMethodNotAllowed, fsm.CodeChanged} {
		ways = append(ways, h.until(idle))
		h.done(code, fsm.Reading{})
	}
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	ways = append(ways, h.until(idle))
	require.Contains(t, ways[1], "then write_uri coap")
	require.Contains(t, ways[2], "the device refused the Package URI (4.05)")
	require.Contains(t, ways[2], "then write_uri http")
	require.Contains(t, ways[3], "then push", "it is asked again")

	// The device is busy with another package.
	h = writing(t, fsm.Plan{Target: newVersion, Size: 1000})
	h.done(fsm.CodeBadRequest, fsm.Reading{})
	said := h.until(downloading)
	require.Contains(t, said, "settling: the device takes a package, but refused ours; the server watches it for 1m0s; retry: the device refused the Package URI (4.00)")
}
