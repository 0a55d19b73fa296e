package fsm_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/internal/record"
)

// A play is a rollout that runs, with its members, for tests of single rules.
type play struct {
	t   *testing.T
	r   fsm.Rollout
	m   []fsm.Member
	now time.Time
	out fsm.Actions
}

// begin starts a rollout of so many members. The first two are those that its stages name.
func begin(t *testing.T, plan fsm.Plan, n int) *play {
	t.Helper()
	require.NoError(t, plan.Check())
	p := &play{t: t, r: fsm.NewRollout(plan, start), m: make([]fsm.Member, n), now: start}
	for i := range p.m {
		only := uint16(0)
		if i < 2 {
			only = 0xffff
		}
		p.do(i, fsm.Input{Kind: fsm.InputAdd, Only: only})
	}
	p.do(-1, fsm.Input{Kind: fsm.InputFilled})
	p.do(-1, fsm.Input{Kind: fsm.InputStart})
	return p
}

// do applies an input to a member, or with -1 to the rollout, and then lets an update be made.
func (p *play) do(i int, in fsm.Input) *play {
	p.t.Helper()
	in.At = p.now
	var m fsm.Member
	if i >= 0 {
		m = p.m[i]
	}
	p.r, m, p.out = p.r.Step(m, in)
	if i >= 0 {
		p.m[i] = m
	}
	if p.out.Do == fsm.ActionStart {
		out := p.out
		p.do(i, fsm.Input{Kind: fsm.InputStarted, Update: "u"})
		p.out = out
	}
	return p
}

// pass lets time pass, for the rollout and its members.
func (p *play) pass(d time.Duration) *play {
	p.now = p.now.Add(d)
	p.do(-1, fsm.Input{Kind: fsm.InputTick})
	for i := range p.m {
		p.do(i, fsm.Input{Kind: fsm.InputTick})
	}
	return p
}

func (p *play) reach(i int) *play { return p.do(i, fsm.Input{Kind: fsm.InputReach}) }

func (p *play) asleep(i int) *play {
	return p.do(i, fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: time.Hour})
}

func (p *play) seen(i int, place fsm.Place) *play { return p.do(i, seenAt(place, true)) }

func (p *play) ends(i int, how fsm.Ending) *play { return p.do(i, endedWith(how)) }

func (p *play) waits(i int, want fsm.Waiting, until time.Duration) {
	p.t.Helper()
	why, at := p.r.Waiting(&p.m[i], p.now, nil, true, false)
	require.Equal(p.t, want, why)
	if until == 0 {
		require.Zero(p.t, at)
	} else {
		require.Equal(p.t, start.Add(until), at)
	}
}

// allAtOnce is a plan of one stage, which trips late, because it is not the first one.
func allAtOnce(concurrency int) fsm.Plan {
	p := smallPlan()
	p.Stages, p.Concurrency = []fsm.Stage{{Share: 1}}, concurrency
	return p
}

// TestCheckPlan: each field has its bounds.
func TestCheckPlan(t *testing.T) {
	night := fsm.Window{From: 60, To: 120, Zone: "UTC", Covers: fsm.CoversAll}
	for text, change := range map[string]func(*fsm.Plan){
		"stages: there are 0":             func(p *fsm.Plan) { p.Stages = nil },
		"stages: there are 17":            func(p *fsm.Plan) { p.Stages = make([]fsm.Stage, 17) },
		"does not cover all targets":      func(p *fsm.Plan) { p.Stages = p.Stages[:1] },
		"stages[1]: size: it is not":      func(p *fsm.Plan) { p.Stages[1] = fsm.Stage{Size: 1} },
		"stages[2]: size: it is not":      func(p *fsm.Plan) { p.Stages = []fsm.Stage{{Share: 0.1}, {Size: 9}, {Share: 0.1}, {Share: 1}} },
		"stages[0]: size: it is neither":  func(p *fsm.Plan) { p.Stages[0] = fsm.Stage{} },
		"stages[0]: size: it is a number": func(p *fsm.Plan) { p.Stages[0].Share = 0.1 },
		"stages[0]: size: -1":             func(p *fsm.Plan) { p.Stages[0].Size = -1 },
		"stages[0]: soak":                 func(p *fsm.Plan) { p.Stages[0].Soak = -1 },
		"concurrency: 0":                  func(p *fsm.Plan) { p.Concurrency = 0 },
		"concurrency: 100001":             func(p *fsm.Plan) { p.Concurrency = fsm.MaxConcurrency + 1 },
		"rate":                            func(p *fsm.Plan) { p.Interval = -1 },
		"max_failure":                     func(p *fsm.Plan) { p.MaxFailure = 1.01 },
		"missing_after":                   func(p *fsm.Plan) { p.MissingAfter = 0 },
		"end_at: there is none":           func(p *fsm.Plan) { p.EndAt = time.Time{} },
		"is not after start_at":           func(p *fsm.Plan) { p.StartAt = p.EndAt },
		"from and to are equal":           func(p *fsm.Plan) { p.Window = night; p.Window.To = 60 },
		"from: 1440":                      func(p *fsm.Plan) { p.Window = night; p.Window.From = 1440 },
		"to: -1":                          func(p *fsm.Plan) { p.Window = night; p.Window.To = -1 },
		"days: 7":                         func(p *fsm.Plan) { p.Window = night; p.Window.Days = []time.Weekday{7} },
		"zone: there is none":             func(p *fsm.Plan) { p.Window = night; p.Window.Zone = "" },
		"fallback_zone":                   func(p *fsm.Plan) { p.Window = night; p.Window.Zone = fsm.ZoneDevice },
		"covers":                          func(p *fsm.Plan) { p.Window = night; p.Window.Covers = "" },
	} {
		p := smallPlan()
		require.NoError(t, p.Check())
		change(&p)
		require.ErrorContains(t, p.Check(), text)
	}
	p := smallPlan()
	p.Stages = []fsm.Stage{{Size: 1}, {Share: 0.01}, {Size: 50}, {Share: 1}} // counts and shares are compared when it runs
	p.Window = night
	require.NoError(t, p.Check())
	p.Window.Covers = fsm.CoversInstall
	require.NoError(t, p.Check())
	require.Equal(t, []int{1, 10, 50, 1000}, p.Ceilings(1000))
	require.Equal(t, []int{1, 1, 7, 7}, p.Ceilings(7))
	p.Stages = []fsm.Stage{{Share: 0.07}, {Share: 1}}
	require.Equal(t, []int{8, 101}, p.Ceilings(101)) // rounded up
	require.Equal(t, []int{7, 100}, p.Ceilings(100))
}

// TestReserved: a sleeper that was heard while all places were taken has the next one, even if it
// sleeps again. It keeps no place from the members that a stage names.
func TestReserved(t *testing.T) {
	p := begin(t, allAtOnce(1), 4).reach(0)
	p.asleep(3)
	require.Equal(t, fsm.WaitingConcurrency, p.out.Waiting) // no invitation while there is no place
	p.seen(0, fsm.PlaceInstalling).asleep(3).reach(1).reach(3)
	require.Equal(t, fsm.PlaceReserved, p.m[3].Place)
	p.seen(1, fsm.PlaceReady).reach(2)
	require.Equal(t, fsm.WaitingConcurrency, p.out.Waiting, "the place is another's")
	p.asleep(3)
	require.Equal(t, fsm.MemberActive, p.m[3].State)

	plan := allAtOnce(1)
	plan.Interval = time.Minute
	p = begin(t, plan, 3).reach(0).ends(0, fsm.EndingSucceeded).pass(time.Minute).asleep(2).reach(1)
	p.reach(2)
	require.Equal(t, fsm.WaitingRate, p.out.Waiting)
	require.Equal(t, fsm.PlaceReserved, p.m[2].Place, "it was heard too soon for the rate")
	p.waits(2, fsm.WaitingRate, 2*time.Minute)

	plan = allAtOnce(1)
	plan.Stages = []fsm.Stage{{Size: 1}, {Size: 2, Only: true}, {Share: 1}}
	p = begin(t, plan, 4).asleep(2).reach(3).reach(2) // and waits for the stage
	p.m[2].Place, p.r.Slots.Invited, p.r.Slots.Reserved = fsm.PlaceReserved, 0, 1
	p.ends(3, fsm.EndingSucceeded).do(-1, fsm.Input{Kind: fsm.InputHealth, OK: true}).reach(0)
	require.Equal(t, fsm.MemberActive, p.m[0].State)
}

// TestInvitation: it lasts for the lifetime of the registration. No more members are invited than
// may transfer.
func TestInvitation(t *testing.T) {
	p := begin(t, allAtOnce(1), 3)
	p.do(0, fsm.Input{Kind: fsm.InputReach, Asleep: true, Lifetime: 72 * time.Hour}).asleep(1)
	require.Equal(t, fsm.PlaceInvited, p.m[0].Place)
	require.Equal(t, fsm.PlaceNone, p.m[1].Place)
	p.pass(72*time.Hour - time.Second)
	require.Equal(t, fsm.PlaceInvited, p.m[0].Place)
	p.pass(time.Second).asleep(1)
	require.Equal(t, fsm.PlaceInvited, p.m[1].Place)
	require.Equal(t, start.Add(73*time.Hour), p.m[1].Wake())
	p.do(2, fsm.Input{Kind: fsm.InputReach, Asleep: true}) // its place is taken
	require.Equal(t, fsm.PlaceNone, p.m[2].Place)
}

// TestMissing: silence counts from when the device was heard last. A member that is heard, or ends
// well, is not bad any more.
func TestMissing(t *testing.T) {
	p := begin(t, allAtOnce(3), 3).reach(0).seen(0, fsm.PlaceInstalling).pass(20 * time.Minute)
	heard := seenAt(fsm.PlaceInstalling, true)
	heard.Seen.Heard = p.now
	p.now = p.now.Add(10 * time.Minute) // when it would be missing
	p.do(0, heard).pass(0)
	require.False(t, p.m[0].Missing)
	require.Equal(t, start.Add(50*time.Minute), p.m[0].Wake())
	p.pass(20 * time.Minute)
	require.True(t, p.m[0].Missing)
	require.Equal(t, fsm.StatePaused, p.r.State)
	require.Equal(t, "a device of the first stage is missing", p.r.Detail)
	p.waits(0, fsm.WaitingOffline, 0)
	p.reach(0)
	require.False(t, p.m[0].Missing)
	require.Equal(t, fsm.Since{Epoch: 2, Admitted: 1}, p.r.Since)
	require.Equal(t, p.now.Add(30*time.Minute), p.m[0].Wake())
	p.pass(30 * time.Minute)
	require.Equal(t, 1, p.r.Since.Bad)
	p.ends(0, fsm.EndingSucceeded)
	require.Equal(t, fsm.Since{Epoch: 2, Admitted: 1}, p.r.Since)

	p = begin(t, allAtOnce(3), 3).reach(0).seen(0, fsm.PlaceInstalling).pass(30*time.Minute).ends(0, fsm.EndingTimedOut)
	require.Equal(t, fsm.Since{Epoch: 2, Admitted: 1, Bad: 1}, p.r.Since) // once
}

// TestShownSilent: a device that does not answer at the end of a soak is missing until it is heard.
func TestShownSilent(t *testing.T) {
	plan := smallPlan()
	p := begin(t, plan, 3).reach(0).ends(0, fsm.EndingSucceeded).pass(10 * time.Minute)
	p.do(0, fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownSilent})
	require.Equal(t, fsm.ReasonTrip, p.r.Reason)
	p.do(-1, fsm.Input{Kind: fsm.InputResume}).do(0, fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownSilent})
	require.Equal(t, fsm.StateRunning, p.r.State, "the operator knows of it")
	p.reach(0).do(0, fsm.Input{Kind: fsm.InputShown, Shown: fsm.ShownSilent})
	require.Equal(t, fsm.StatePaused, p.r.State, "it was heard, and is silent again")
	require.Equal(t, fsm.MemberSucceeded, p.m[0].State)
}

// TestRetryCountsOnce: a member that is retried counts neither as admitted nor as bad, until it is.
func TestRetryCountsOnce(t *testing.T) {
	plan := smallPlan()
	plan.MaxFailure = 0.1 // of 20: three bad ones are too many
	p := begin(t, plan, 6).reach(0).ends(0, fsm.EndingSucceeded).pass(10*time.Minute).
		do(-1, fsm.Input{Kind: fsm.InputChecked}).do(-1, fsm.Input{Kind: fsm.InputHealth, OK: true})
	for i := 1; i <= 2; i++ {
		p.reach(i).ends(i, fsm.EndingFailed)
	}
	require.Equal(t, fsm.Since{Epoch: 3, Admitted: 2, Bad: 2}, p.r.Since)
	p.do(1, fsm.Input{Kind: fsm.InputRetry})
	require.Equal(t, fsm.Since{Epoch: 3, Admitted: 1, Bad: 1}, p.r.Since)
	p.reach(1).ends(1, fsm.EndingFailed)
	require.Equal(t, fsm.StateRunning, p.r.State, "the same two devices")
	require.Equal(t, 2, p.m[1].Attempt)
	p.reach(3).ends(3, fsm.EndingRolledBack)
	require.Equal(t, "3 of 3 devices are bad; while fewer than 20 are admitted, 2 may be", p.r.Detail)
}

// TestReopen: a rollout that is done takes members again, until its time is over.
func TestReopen(t *testing.T) {
	done := func() *play {
		p := begin(t, allAtOnce(3), 2)
		p.reach(0).ends(0, fsm.EndingSucceeded).reach(1).ends(1, fsm.EndingCurrent)
		require.Equal(t, fsm.ReasonDone, p.r.Reason)
		p.m = append(p.m, fsm.Member{})
		return p
	}
	p := done().do(2, fsm.Input{Kind: fsm.InputAdd, Text: "by kim"})
	require.Equal(t, fsm.StateRunning, p.r.State)
	require.Equal(t, []fsm.Line{{Event: fsm.EventResumed, Detail: "by kim"}}, p.out.Journal)
	p.reach(2).ends(2, fsm.EndingSucceeded)
	require.Equal(t, fsm.StateEnded, p.r.State)

	p = done().do(1, fsm.Input{Kind: fsm.InputRetry})
	require.Equal(t, fsm.StateRunning, p.r.State)
	p = done().do(2, fsm.Input{Kind: fsm.InputAdd, Skip: fsm.SkipIncompatible})
	require.Equal(t, fsm.StateEnded, p.r.State)
	require.Equal(t, 2, p.r.Total.Skipped)

	p = done()
	p.now = p.r.Plan.EndAt
	require.False(t, p.do(2, fsm.Input{Kind: fsm.InputAdd}).out.Persist)
	require.False(t, p.do(1, fsm.Input{Kind: fsm.InputRetry}).out.Persist)

	p = begin(t, allAtOnce(3), 2).do(-1, fsm.Input{Kind: fsm.InputStop}).do(0, fsm.Input{Kind: fsm.InputFinish}).do(1, fsm.Input{Kind: fsm.InputFinish})
	require.Equal(t, fsm.StateEnded, p.r.State)
	require.False(t, p.do(1, fsm.Input{Kind: fsm.InputRetry}).out.Persist, "a stop cannot be undone")
}

// TestStart: a draft starts once it has its members, and before its time is over.
func TestStart(t *testing.T) {
	p := &play{t: t, r: fsm.NewRollout(allAtOnce(1), start), m: make([]fsm.Member, 1), now: start}
	require.False(t, p.do(-1, fsm.Input{Kind: fsm.InputStart}).out.Persist, "it is not filled")
	p.do(-1, fsm.Input{Kind: fsm.InputFilled})
	require.False(t, p.do(-1, fsm.Input{Kind: fsm.InputStart}).out.Persist, "it has no member")
	p.do(0, fsm.Input{Kind: fsm.InputAdd})
	p.waits(0, fsm.WaitingNotStarted, 0)
	late := *p
	late.now = p.r.Plan.EndAt
	require.False(t, late.do(-1, fsm.Input{Kind: fsm.InputStart}).out.Persist, "its time is over")
	require.True(t, p.do(-1, fsm.Input{Kind: fsm.InputStart}).out.Persist)
}

// TestEdit: fewer places take grants back, and a smaller share of bad ones trips at once.
func TestEdit(t *testing.T) {
	p := begin(t, allAtOnce(4), 4)
	for i := range p.m {
		p.reach(i)
	}
	require.Equal(t, 4, p.r.Slots.Granted)
	plan := p.r.Plan
	plan.Concurrency = 3
	p.do(-1, fsm.Input{Kind: fsm.InputEdit, Plan: plan})
	held := seenAt(fsm.PlaceTransferring, true)
	held.Kind = fsm.InputHeld
	require.Equal(t, fsm.ActionHold, p.pass(0).out.Do)
	require.Equal(t, fsm.ActionNone, p.do(3, held).out.Do)
	require.Equal(t, 3, p.r.Slots.Granted)
	require.Equal(t, fsm.ActionNone, p.pass(0).out.Do)

	plan = smallPlan()
	plan.MaxFailure = 0.5
	p = begin(t, plan, 4).reach(0).ends(0, fsm.EndingSucceeded).pass(10*time.Minute).
		do(-1, fsm.Input{Kind: fsm.InputChecked}).do(-1, fsm.Input{Kind: fsm.InputHealth, OK: true}).
		reach(1).ends(1, fsm.EndingFailed).reach(2).ends(2, fsm.EndingFailed)
	require.Equal(t, fsm.StateRunning, p.r.State)
	plan.MaxFailure = 0.01
	p.do(-1, fsm.Input{Kind: fsm.InputEdit, Plan: plan})
	require.Equal(t, fsm.ReasonTrip, p.r.Reason)
}

// TestStopEndsWhatIsHeld: an update that nothing lets go on does not keep a rollout that stops from
// its end. A member beyond the ceiling is cancelled at once, since no other stage opens; one whose
// device is away may come back until end_at.
func TestStopEndsWhatIsHeld(t *testing.T) {
	plan := smallPlan()
	plan.Stages = []fsm.Stage{{Size: 2}, {Share: 1}}
	held := fsm.Input{Kind: fsm.InputHeld, Seen: seenAt(fsm.PlaceTransferring, false).Seen}
	p := begin(t, plan, 4)
	for i := range 2 {
		p.reach(i).do(i, seenAt(fsm.PlaceTransferring, false))
	}
	p.pass(fsm.AwayTime).do(0, held).do(1, held)
	p.reach(2).reach(3).seen(2, fsm.PlaceReady).seen(0, fsm.PlaceReady)
	require.Equal(t, fsm.PlaceParked, p.m[0].Place)
	require.Equal(t, fsm.PlaceAway, p.m[1].Place)

	p.do(-1, fsm.Input{Kind: fsm.InputStop})
	require.Equal(t, fsm.ActionCancel, p.do(0, fsm.Input{Kind: fsm.InputTick}).out.Do)
	p.ends(0, fsm.EndingCancelled).ends(2, fsm.EndingSucceeded).ends(3, fsm.EndingSucceeded)
	require.Equal(t, fsm.ActionNone, p.do(1, fsm.Input{Kind: fsm.InputTick}).out.Do)
	require.Equal(t, plan.EndAt, p.r.Wake())
	p.now = plan.EndAt
	p.do(-1, fsm.Input{Kind: fsm.InputTick})
	require.Equal(t, fsm.ActionCancel, p.do(1, fsm.Input{Kind: fsm.InputTick}).out.Do)
	require.Equal(t, fsm.StateEnded, p.ends(1, fsm.EndingCancelled).r.State)
}

// TestWindowTakesGrantsBack: a moment before a window ends, its updates are held.
func TestWindowTakesGrantsBack(t *testing.T) {
	plan := allAtOnce(2)
	plan.Window = fsm.Window{From: 12 * 60, To: 13 * 60, Zone: "UTC", Covers: fsm.CoversInstall}
	p := begin(t, plan, 2).reach(0)
	require.True(t, p.m[0].Granted)
	p.pass(time.Hour - fsm.HoldTime - time.Second)
	require.Equal(t, fsm.ActionNone, p.do(0, fsm.Input{Kind: fsm.InputTick}).out.Do)
	p.pass(time.Second)
	require.Equal(t, fsm.ActionHold, p.do(0, fsm.Input{Kind: fsm.InputTick}).out.Do)
	p.reach(1)
	require.False(t, p.m[1].Granted)
	p.seen(1, fsm.PlaceReady).pass(time.Minute)
	p.waits(1, fsm.WaitingWindow, 24*time.Hour)
	plan.Window.Covers = fsm.CoversAll
	p.do(-1, fsm.Input{Kind: fsm.InputEdit, Plan: plan}).do(1, fsm.Input{Kind: fsm.InputSeen, Seen: fsm.Seen{End: fsm.EndingAway}})
	p.waits(1, fsm.WaitingWindow, 24*time.Hour)
}

// TestRefused: a member that another update is in the way of is tried again after a minute, and one
// whose update cannot be made after pauses that grow to an hour.
func TestRefused(t *testing.T) {
	p := begin(t, allAtOnce(1), 1)
	refuse := func(in fsm.Input) time.Duration {
		p.now = p.now.Add(2 * time.Hour)
		m := p.m[0]
		m.Busy, m.Failed, m.Until = "", "", time.Time{}
		p.m[0] = m
		in.Kind, in.At = fsm.InputRefused, p.now
		p.r, m, _ = p.r.Step(m, fsm.Input{Kind: fsm.InputReach, At: p.now})
		require.Equal(t, fsm.PlaceStarting, m.Place)
		p.r, p.m[0], _ = p.r.Step(m, in)
		require.Equal(t, fsm.MemberWaiting, p.m[0].State)
		require.Zero(t, p.r.Since.Admitted)
		return p.m[0].Until.Sub(p.now)
	}
	require.Equal(t, time.Minute, refuse(fsm.Input{Busy: "other"}))
	p.waits(0, fsm.WaitingBusy, p.now.Sub(start)+time.Minute)
	require.Equal(t, 2*time.Minute, refuse(fsm.Input{Text: "no"}))
	require.Equal(t, "no", p.m[0].Failed)
	p.waits(0, fsm.WaitingRetry, p.now.Sub(start)+2*time.Minute)
	require.Equal(t, 4*time.Minute, refuse(fsm.Input{}))
	for range 4 {
		refuse(fsm.Input{Text: "no"})
	}
	require.Equal(t, time.Hour, refuse(fsm.Input{Text: "no"}))
	require.Equal(t, time.Minute, refuse(fsm.Input{Busy: "other"}))
}

// TestStored: each value of each enumeration is stored and read.
func TestStored(t *testing.T) {
	members, rollouts := record.Of[fsm.Member](), record.Of[fsm.Rollout]()
	store := func(m fsm.Member, r fsm.Rollout) {
		t.Helper()
		data, err := members.Append(nil, &m)
		require.NoError(t, err)
		var gotM fsm.Member
		require.NoError(t, members.Decode(data, &gotM))
		require.Equal(t, m, gotM)
		data, err = rollouts.Append(nil, &r)
		require.NoError(t, err)
		var gotR fsm.Rollout
		require.NoError(t, rollouts.Decode(data, &gotR))
		require.Equal(t, r, gotR)
	}
	draft := fsm.NewRollout(smallPlan(), start)
	for _, s := range []fsm.MemberState{
		fsm.MemberWaiting, fsm.MemberActive, fsm.MemberSucceeded, fsm.MemberFailed, fsm.MemberRolledBack, fsm.MemberSkipped,
	} {
		store(fsm.Member{State: s}, draft)
	}
	for _, p := range []fsm.Place{
		fsm.PlaceInvited, fsm.PlaceReserved, fsm.PlaceStarting, fsm.PlaceTransferring, fsm.PlaceReady, fsm.PlaceInstalling, fsm.PlaceAway, fsm.PlaceParked,
	} {
		store(fsm.Member{Place: p}, draft)
	}
	for _, s := range []fsm.SkipReason{
		fsm.SkipCurrent, fsm.SkipIncompatible, fsm.SkipNotComparable, fsm.SkipRemoved, fsm.SkipCancelled, fsm.SkipUnreachable,
	} {
		store(fsm.Member{Skip: s}, draft)
	}
	for _, s := range []fsm.State{fsm.StateDraft, fsm.StateRunning, fsm.StatePaused, fsm.StateStopping, fsm.StateEnded} {
		draft.State = s
		store(fsm.Member{}, draft)
	}
	for _, s := range []fsm.Reason{fsm.ReasonTrip, fsm.ReasonOperator, fsm.ReasonEndAt, fsm.ReasonDone, fsm.ReasonStage} {
		draft.Reason = s
		store(fsm.Member{}, draft)
	}
	for _, s := range []fsm.StageState{fsm.StageFilling, fsm.StageSoaking, fsm.StageChecking, fsm.StageGate, fsm.StageHealth} {
		draft.StageState = s
		store(fsm.Member{}, draft)
	}
	for _, e := range []fsm.Ending{
		fsm.EndingSucceeded, fsm.EndingCurrent, fsm.EndingFailed, fsm.EndingRolledBack, fsm.EndingTimedOut, fsm.EndingAway, fsm.EndingCancelled, fsm.EndingIncompatible,
	} {
		store(fsm.Member{End: e}, draft)
	}
	for _, c := range []fsm.Covers{fsm.CoversInstall, fsm.CoversAll} {
		draft.Plan.Window.Covers = c
		store(fsm.Member{}, draft)
	}
}

// TestReasons: each member that does not go on says why, and until when.
func TestReasons(t *testing.T) {
	plan := smallPlan()
	plan.StartAt = start.Add(time.Hour)
	plan.Stages[1].Manual = true
	p := begin(t, plan, 4)
	p.waits(0, fsm.WaitingNotStarted, time.Hour)
	p.pass(time.Hour).reach(0)
	p.waits(1, fsm.WaitingStage, 0)
	p.ends(0, fsm.EndingSucceeded)
	p.waits(1, fsm.WaitingStage, 70*time.Minute)
	p.pass(10*time.Minute).do(-1, fsm.Input{Kind: fsm.InputChecked})
	p.waits(1, fsm.WaitingGate, 0)
	p.do(-1, fsm.Input{Kind: fsm.InputOpen}).do(-1, fsm.Input{Kind: fsm.InputHealth, Text: "not now"})
	p.waits(1, fsm.WaitingGate, 71*time.Minute)
	p.pass(time.Minute).do(-1, fsm.Input{Kind: fsm.InputHealth, OK: true})
	p.waits(1, "", 0)
	p.reach(1).do(1, seenAt(fsm.PlaceTransferring, false)).pass(fsm.AwayTime)
	p.waits(1, fsm.WaitingOffline, 0)
	p.reach(2).do(-1, fsm.Input{Kind: fsm.InputPause, Text: "lunch"})
	p.waits(3, fsm.WaitingPaused, 0)
	held := seenAt(fsm.PlaceReady, true)
	held.Kind = fsm.InputHeld
	p.do(2, held)
	p.waits(2, fsm.WaitingPaused, 0)
	why, _ := p.r.Waiting(&p.m[0], p.now, nil, true, false)
	require.Empty(t, why, "it has ended")
}
