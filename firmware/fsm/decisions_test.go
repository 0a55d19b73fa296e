package fsm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// lines returns the words of the last step's journal.
func (h *hand) lines() []string {
	var events []string
	for _, e := range h.actions.Journal {
		events = append(events, e.Event)
	}
	return events
}

// keeps is a plan for a device that shows its last Result until the next one: it is not reset before a transfer.
func keeps() fsm.Plan {
	return fsm.Plan{Target: newVersion, Size: 1000, Profile: fsm.Profile{Reset: fsm.ResetNUL}}
}

// TestSameResultAgain: a Result that was there before the transfer is a new one if the device had begun in between, at once;
// else only some time after the answer, and not at all if nothing says that the device got the URI.
func TestSameResultAgain(t *testing.T) {
	for result := fsm.ResultSuccess; result <= fsm.ResultDependencyError; result++ {
		before := picture{fsm.Idle, result, oldVersion, false}
		begun := func() *hand {
			h := started(keeps())
			h.toAction(t, fsm.ActionWriteURI, before)
			return h
		}
		// It began: seen by a read, or by bytes.
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
			require.NotContains(t, h.update.Wait.Reason, "device to begin", "%s", result)
			require.Equal(t, result, h.update.Reported)
			if result == fsm.ResultSuccess {
				require.Contains(t, h.lines(), "upgrade")
				h.step(fsm.Observation{Kind: fsm.ObserveCancel})
				require.Equal(t, fsm.MayStillUnknown, h.update.MayStill, "it installs by itself")
				continue
			}
			require.NotContains(t, h.lines(), "settle", result)
		}
		if result == fsm.ResultSuccess {
			continue // which says nothing of a device that has not begun
		}
		h := begun()
		h.done(fsm.CodeChanged, fsm.Reading{})
		answered := h.now
		h.reads(before)
		require.Equal(t, "device to begin", h.update.Wait.Reason)
		require.Equal(t, answered.Add(5*time.Second), h.update.Wake())
		h.reads(before)
		require.Equal(t, result, h.update.Reported, "now it is one")
		// Not acknowledged.
		h = begun()
		h.done(fsm.CodeNone, fsm.Reading{})
		h.reads(before)
		require.Zero(t, h.update.Reported, "%s is from before", result)
		require.Contains(t, h.update.Wait.Reason, "seems not to have received the Package URI")
		// Refused.
		h = begun()
		h.done(fsm.CodeNotImplemented, fsm.Reading{})
		h.reads(before)
		h.reads(before)
		require.Equal(t, result, h.update.Reported)
		// Interrupted.
		h = begun()
		h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
		h.reads(before)
		require.Equal(t, "device to begin", h.update.Wait.Reason)
	}
	// After a push into a device that was stuck in another transfer every Result is new.
	for result := fsm.ResultNoStorage; result <= fsm.ResultDependencyError; result++ {
		h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush})
		h.method = fsm.PushAndPull
		h.toAction(t, fsm.ActionPush, downloading)
		h.done(fsm.CodeNone, fsm.Reading{})
		h.reads(picture{fsm.Idle, result, oldVersion, false})
		require.Equal(t, result, h.update.Reported)
	}
	// A push says so itself.
	h := started(fsm.Plan{Target: newVersion, Size: 1000, Delivery: fsm.DeliveryPush, Profile: fsm.Profile{Reset: fsm.ResetNUL}})
	h.method = fsm.PushAndPull
	before := picture{fsm.Idle, fsm.ResultIntegrityFailed, oldVersion, false}
	h.toAction(t, fsm.ActionPush, before)
	h.done(fsm.CodeChanged, fsm.Reading{})
	require.EqualValues(t, 1000, h.update.Bytes)
	h.reads(before)
	require.Equal(t, fsm.ReasonDeviceResult, h.update.Reason)
}

// TestNothingToSee: a device that shows neither a package nor a Result is given time, by what is known of it.
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
		{write, plan, fsm.CodeChanged, []fsm.Observation{registered}, time.Minute, "registered anew and shows no download"},
		{write, plan, fsm.CodeChanged, []fsm.Observation{bytes, registered}, time.Minute, "registered anew and lost its download"},
		{write, plan, fsm.CodeChanged, []fsm.Observation{bytes}, time.Minute, "dropped its download"},
		{write, plan, fsm.CodeNone, nil, time.Minute, "seems not to have received the Package URI"},
		{write, grace(time.Hour), fsm.CodeNone, nil, time.Hour, "seems not to have received the Package URI"},
		{write, grace(1), fsm.CodeNone, nil, 1, "seems not to have received the Package URI"},
		{write, plan, fsm.CodeNone, []fsm.Observation{resumed}, 5 * time.Second, "seems not to have received the Package URI"},
		{write, grace(time.Hour), fsm.CodeNone, []fsm.Observation{resumed}, time.Hour, "seems not to have received the Package URI"},
		{push, plan, fsm.CodeNone, nil, time.Minute, "shows nothing of a push that broke off"},
		{push, plan, fsm.CodeNone, []fsm.Observation{resumed}, time.Minute, "shows nothing of a push that broke off"},
		{push, plan, fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{push, grace(time.Hour), fsm.CodeChanged, nil, 5 * time.Minute, "accepted the package but shows no download"},
		{push, plan, fsm.CodeChanged, []fsm.Observation{registered}, time.Minute, "registered anew and lost its download"},
	} {
		h := tt.begin(tt.plan)
		h.done(tt.code, fsm.Reading{})
		for _, o := range tt.then {
			h.step(o)
		}
		h.reads(idle)
		require.Equal(t, "a second look, because the device "+tt.why, h.update.Wait.Reason)
		require.Equal(t, tt.wait, h.update.Wait.Until.Sub(h.now), tt.why)
		require.Contains(t, h.until(idle), "retry: the device "+tt.why)
	}
}

// TestFreeAgain: what begins again for free begins at once, and pauses between attempts are no part of a phase.
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
	require.Contains(t, h.journal(), "retry: no Package URI can be made for coap: unknown\n")
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

	// A wait of the attempt before leaves nothing to the next.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	require.Contains(t, h.until(idle), "then write URI http [after 5m")
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

// TestRefusals: the codes of a refusal that let the other way of delivery be tried, and what follows if both are refused.
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
		require.Equal(t, other[code], strings.Contains(h.journal(), "push was refused ("+code.String()+"); pull is tried"), "%s: %s", code, h.journal())
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
	require.Contains(t, ways[1], "then write URI coap")
	require.Contains(t, ways[2], "pull was refused (4.05)")
	require.Contains(t, ways[2], "then write URI http")
	require.Contains(t, ways[3], "then push", "it is asked again")

	// Busy with another package.
	h = writing(t, fsm.Plan{Target: newVersion, Size: 1000})
	h.done(fsm.CodeBadRequest, fsm.Reading{})
	said := h.until(downloading)
	require.Contains(t, said, "settle: the device takes a package, but refused ours; looking again for 1m0s; retry: pull was refused (4.00)")
}

// TestLostOnHold: a device that loses its package while the update is held gets it again, unless its Result says that there is
// no use.
func TestLostOnHold(t *testing.T) {
	final := map[fsm.Result]bool{1: true, 2: true, 5: true, 6: true, 7: true, 9: true}
	for result := fsm.Result(0); result < 15; result++ {
		h := transferring(fsm.Plan{Target: newVersion, Size: 1000, Attempts: 1})
		h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "operator"}})
		h.reads(downloaded)
		require.True(t, h.actions.Holds, "the fact is to be stored")
		require.Contains(t, h.lines(), "waits")
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

// TestHoldsAreExact: what time a hold takes is given back, no more and no less.
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
	hold(h, "b", 9*time.Hour) // the first
	require.Equal(t, epoch.Add(9*time.Hour), h.update.Holds[0].Until, "there is room for the same one")

	// Held from the start, in any zone.
	u := fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch.In(time.FixedZone("", 3600)), fsm.Hold{Holder: "a"}, fsm.Hold{}, fsm.Hold{Holder: "b"})
	require.Len(t, u.Holds, 2)
	require.Equal(t, epoch, u.Created)
	require.Equal(t, epoch, u.Holds[0].Since)

	// A settling look that a hold interrupted is over.
	h = transferring(fsm.Plan{Target: newVersion})
	h.reads(idle)
	require.Contains(t, h.update.Wait.Reason, "a second look")
	hold(h, "a", 0)
	h.reads(downloaded)
	h.step(fsm.Observation{Kind: fsm.ObserveRelease, Hold: fsm.Hold{Holder: "a"}})
	require.Equal(t, "device to be read", h.update.Wait.Reason)

	// A device that installs by itself is looked at while it is barred, and no more barred after.
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

// TestVersionAfterWrite: a device that shows the target version before an attempt has it from this update if something was
// written, and not if it had it from the start.
func TestVersionAfterWrite(t *testing.T) {
	lost := picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false}
	for _, delivery := range []fsm.Delivery{fsm.DeliveryPull, fsm.DeliveryPush} {
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

	// Blanks around a version are told once.
	h = started(fsm.Plan{Target: newVersion})
	padded := picture{fsm.Updating, 0, oldVersion + " ", false}
	h.reads(padded)
	require.Contains(t, h.journal(), `stripped: 3/0/3 has blanks or a NUL around "`+oldVersion+`", which do not count`)
	h.reads(padded)
	require.Empty(t, h.journal())
	h.reads(picture{fsm.Updating, 0, "", false})
	require.Empty(t, h.journal())
	h.reads(updating)
	require.Empty(t, h.journal())
}

// TestCounts: which attempt it is, what was counted, and what each step stores.
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
	require.Equal(t, fsm.ActionObserve, h.actions.Do.Kind)
	require.False(t, h.actions.Persist, "nor is observing")

	// The first byte is the start, the last one is stored and looked after, once.
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress})
	require.Empty(t, h.journal())
	require.Equal(t, fsm.Idle, h.update.State)
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
	require.Equal(t, "transfer: the device takes the package\n", h.journal())
	require.Equal(t, fsm.Downloading, h.update.State)
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 999})
	require.False(t, h.actions.Persist)
	require.Equal(t, 3*time.Second, h.update.Wake().Sub(h.now))
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
	require.True(t, h.actions.Persist)
	require.Equal(t, 500*time.Millisecond, h.update.Wake().Sub(h.now).Round(100*time.Millisecond))
	h.reads(downloading)
	wake := h.update.Wake()
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1000})
	require.Equal(t, wake, h.update.Wake())
	require.False(t, h.actions.Persist)
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, h.journal(), "1000 of 1000 bytes were fetched")
	h = transferring(fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveProgress, Bytes: 1})
	h.reads(picture{fsm.Idle, fsm.ResultConnectionLost, oldVersion, false})
	require.Contains(t, h.journal(), "1 of 1000 bytes were fetched")

	// The time of a transfer begins with the answer.
	for _, h := range []*hand{writing(t, fsm.Plan{Target: newVersion, Size: 1000}), pushing(t, fsm.Plan{Target: newVersion, Size: 1000})} {
		h.now = h.now.Add(time.Hour)
		h.done(fsm.CodeChanged, fsm.Reading{})
		require.Equal(t, 2*time.Hour, h.update.Wait.Until.Sub(h.now))
	}

	// A list with what is unknown, or twice in it, can be stored.
	h = started(fsm.Plan{Target: newVersion})
	h.toAction(t, fsm.ActionRead, idle)
	r := h.shows(updating)
	r.Protocols = fsm.Known([]fsm.Protocol{"ftp", fsm.ProtocolHTTP, fsm.ProtocolHTTP, fsm.ProtocolAuto})
	h.done(fsm.CodeContent, r)
	data, err := json.Marshal(h.update)
	require.NoError(t, err)
	require.Contains(t, string(data), `"listed":["http"]`)

	// Each of what cannot be read is counted in its own row.
	h = transferring(fsm.Plan{Target: newVersion})
	h.readsAll(fsm.Reading{})
	h.reads(picture{fsm.State(43), 0, oldVersion, false})
	h.readsAll(fsm.Reading{})
	require.Contains(t, h.journal(), "(1 in a row)")
}

// TestGoingAway: what was under way is given up, and the device looked at as soon as it is back.
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

	// A success that the clock finds ends a read that is under way.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	trial := picture{fsm.Updating, 0, newVersion, false}
	h.reads(trial)
	require.Equal(t, fsm.PhaseVerifying, h.update.Phase)
	h.toAction(t, fsm.ActionRead, trial)
	h.now = h.now.Add(time.Hour)
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Equal(t, fsm.ReasonVersion, h.update.Reason)
	require.True(t, h.actions.Abandon)

	// Back with its old version and no object, and then silent.
	h = executed(fsm.Plan{Target: newVersion}, oldVersion)
	h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
	h.reads(picture{fsm.State(43), 0, oldVersion, false})
	h.lapse()
	require.Equal(t, fsm.OutcomeRolledBack, h.update.Outcome)
	require.Equal(t, fsm.ReasonOldVersion, h.update.Reason)

	// A timer that is late comes at once.
	h = pushing(t, fsm.Plan{Target: newVersion, Size: 1000})
	h.step(fsm.Observation{Kind: fsm.ObserveSilent, Action: h.update.Doing().ID})
	h.now = h.now.Add(23400 * time.Millisecond)
	h.step(fsm.Observation{Kind: fsm.ObserveHint})
	require.Equal(t, h.now.Add(1), h.update.Wake())
	h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	require.Contains(t, h.journal(), "not answered for 23s;")
}
