package fsm_test

import (
	"cmp"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A habit is how a device of a story behaves.
type habit struct {
	away     func(since time.Duration) bool // since the start of the story; nil for never
	transfer time.Duration                  // 2 min by default
	install  time.Duration                  // 3 min by default
	ending   fsm.Ending                     // succeeded by default
	later    bool                           // it goes back to the old version before the soak ends
	asleep   time.Duration                  // it is heard only once in so long
	lost     bool                           // it is never heard after Execute
}

// simDevice is a device of a story, and its update as firmware.Manager would have it.
type simDevice struct {
	habit
	update   place
	held     bool
	since    time.Time // when the update came to its place
	done     time.Duration
	end      fsm.Ending
	attempt  int
	executed bool
	heard    time.Time

	updates   int // that were made
	installed int
}

// A story plays a rollout as a shell would, in steps of half a minute.
type story struct {
	t       *testing.T
	out     strings.Builder
	r       fsm.Rollout
	members []fsm.Member
	devices []*simDevice
	now     time.Time
	zone    *time.Location
	health  func(stage int, at time.Duration) (ok bool, reason string)
	orders  map[time.Duration]fsm.Input // of an operator
	counts  string
	most    int // installing at once

	cut    cut
	runs   bool
	points int          // steps that were stored since it runs
	unsure map[int]bool // members of which the shell does not know what took place
}

// A cut is when the shell of a story crashes: before its n-th step is stored, after that and before
// its action, or after the action and before its end is known.
type cut struct {
	point int
	when  string
}

type crashed struct{}

// crash ends what the shell is about, if it is to crash now.
func (s *story) crash(when string) {
	if s.runs && s.cut == (cut{s.points, when}) {
		for i := range s.members {
			s.unsure[i] = s.members[i].State == fsm.MemberActive
		}
		s.cut = cut{}
		panic(crashed{})
	}
}

func (s *story) step(i int, in fsm.Input) fsm.Actions {
	var m fsm.Member
	if i >= 0 {
		m = s.members[i]
	}
	in.At, in.Zone = s.now, s.zone
	r, m, out := s.r.Step(m, in)
	if out.Persist && s.runs {
		s.points++
		s.crash("before")
	}
	s.r = r
	if i >= 0 {
		s.members[i] = m
	}
	for _, line := range out.Journal {
		fmt.Fprintf(&s.out, "  %-9s %s: %s\n", s.now.Sub(start), line.Event, line.Detail)
	}
	if i >= 0 {
		if out.Persist {
			s.crash("after")
		}
		s.do(i, out.Do)
	}
	return out
}

// do carries an action out.
func (s *story) do(i int, do fsm.ActionKind) {
	d, m := s.devices[i], &s.members[i]
	switch do {
	case fsm.ActionStart:
		if d.attempt != m.Attempt {
			*d = simDevice{
				habit: d.habit, update: transferring, since: s.now, held: !m.Granted, attempt: m.Attempt, heard: d.heard,
				updates: d.updates + 1, installed: d.installed,
			}
		}
		s.crash("done")
		s.step(i, fsm.Input{Kind: fsm.InputStarted, Update: fmt.Sprint("u", i, "-", m.Attempt)})
	case fsm.ActionHold:
		d.held = true
		s.crash("done")
		s.step(i, fsm.Input{Kind: fsm.InputHeld, Seen: s.seen(d)})
	case fsm.ActionRelease:
		d.held, d.since = false, s.now // a hold is not the device's time
	case fsm.ActionCancel:
		d.update, d.end = ended, fsm.EndingCancelled
	}
}

func (s *story) reachable(d *simDevice) bool {
	since := s.now.Sub(start)
	switch {
	case d.lost && d.executed:
		return false
	case d.asleep > 0:
		return since%d.asleep == 0
	}
	return d.away == nil || !d.away(since)
}

// live lets a device go on for half a minute.
func (s *story) live(i int) {
	d := s.devices[i]
	if s.reachable(d) {
		d.heard = s.now
	}
	if d.update == none || d.update == ended {
		return
	}
	if online := s.reachable(d) || d.asleep > 0; online {
		d.done += tick
	}
	switch {
	case s.now.Sub(d.since) >= 24*time.Hour && d.update != installing && !d.held: // its deadline
		d.update, d.end = ended, fsm.EndingAway
	case d.update == transferring && d.done >= cmp.Or(d.transfer, 2*time.Minute):
		d.update, d.done = ready, 0
		fallthrough
	case d.update == ready:
		if !d.held && (s.reachable(d) || d.asleep > 0) {
			d.update, d.done, d.since, d.executed = installing, 0, s.now, true
		}
	case d.update == installing && s.now.Sub(d.since) >= 2*time.Hour:
		d.update, d.end = ended, fsm.EndingTimedOut
	case d.update == installing && !d.lost && d.done >= cmp.Or(d.install, 3*time.Minute):
		d.update, d.end = ended, cmp.Or(d.ending, fsm.EndingSucceeded)
		d.installed += count(d.end == fsm.EndingSucceeded)
	}
}

const tick = 30 * time.Second

// play plays the rollout to its end, and returns what an operator would see.
func (s *story) play(plan fsm.Plan) string {
	s.now = start
	s.r = fsm.NewRollout(plan, s.now)
	require.NoError(s.t, plan.Check())
	s.members, s.unsure = make([]fsm.Member, len(s.devices)), map[int]bool{}
	for i := range s.members {
		only := uint16(0)
		if i < 2 {
			only = 1
		}
		s.step(i, fsm.Input{Kind: fsm.InputAdd, Only: only})
	}
	s.step(-1, fsm.Input{Kind: fsm.InputFilled})
	s.step(-1, fsm.Input{Kind: fsm.InputStart, Text: "by an operator"})
	s.runs = true
	for ; s.r.State != fsm.StateEnded; s.now = s.now.Add(tick) {
		require.Less(s.t, s.now.Sub(start), 10*24*time.Hour, "invariant 8: it does not end: %+v\n%+v", s.r, s.members)
		s.turn()
		s.show()
	}
	require.LessOrEqual(s.t, s.most, plan.Concurrency, "installed at once")
	return s.out.String()
}

// turn does what a shell does in half a minute, unless it crashes.
func (s *story) turn() {
	for i := range s.devices {
		s.live(i)
	}
	if in, ok := s.orders[s.now.Sub(start)]; ok {
		was := s.cut
		s.cut = cut{} // an operator repeats an order whose end he does not know
		s.order(in)
		s.cut = was
	}
	defer func() {
		if e := recover(); e != nil && e != any(crashed{}) {
			panic(e)
		}
	}()
	s.step(-1, fsm.Input{Kind: fsm.InputTick})
	s.look()
	s.shell()
}

// order gives an operator's order, with one for each member where it concerns them.
func (s *story) order(in fsm.Input) {
	if in.Kind != fsm.InputRetry {
		s.step(-1, in)
		return
	}
	for i := range s.members {
		if s.members[i].State == fsm.MemberFailed {
			s.step(i, in)
		}
	}
}

// look reads the updates of all active members.
func (s *story) look() {
	installs := 0
	for i, d := range s.devices {
		if d.update == installing {
			installs++
		}
		m := &s.members[i]
		if m.State == fsm.MemberActive {
			s.step(i, fsm.Input{Kind: fsm.InputSeen, Seen: s.seen(d)})
		}
		s.step(i, fsm.Input{Kind: fsm.InputTick})
		if s.unsure[i] {
			delete(s.unsure, i)
			s.step(i, fsm.Input{Kind: fsm.InputGrant})
		}
	}
	s.most = max(s.most, installs)
}

// seen is what a shell reads of a device's update.
func (s *story) seen(d *simDevice) fsm.Seen {
	return fsm.Seen{
		Place:  map[place]fsm.Place{transferring: fsm.PlaceTransferring, ready: fsm.PlaceReady, installing: fsm.PlaceInstalling}[d.update],
		Online: s.reachable(d) || d.asleep > 0, End: d.end, Silence: s.r.Plan.MissingAfter + d.asleep, Heard: d.heard,
	}
}

// shell offers members and answers questions.
func (s *story) shell() {
	left, exhausted := 0, true
	for i := range s.members {
		m, d := &s.members[i], s.devices[i]
		if m.State == fsm.MemberActive && !m.Granted && (m.Place == fsm.PlaceReady || m.Place == fsm.PlaceParked) {
			s.step(i, fsm.Input{Kind: fsm.InputGrant})
		}
		if m.State != fsm.MemberWaiting {
			continue
		}
		if s.r.State == fsm.StateStopping {
			s.step(i, fsm.Input{Kind: fsm.InputFinish})
			continue
		}
		if !s.r.Plan.Stages[s.r.Stage].Only || m.Only != 0 {
			left++
			exhausted = exhausted && !s.reachable(d)
		}
		if s.reachable(d) || d.asleep > 0 {
			s.step(i, fsm.Input{Kind: fsm.InputReach, Asleep: !s.reachable(d), Lifetime: d.asleep})
		}
	}
	if exhausted {
		s.step(-1, fsm.Input{Kind: fsm.InputExhausted, None: left == 0})
	}
	if s.r.StageState == fsm.StageChecking && s.r.State == fsm.StateRunning {
		for i, m := range s.members {
			if m.State != fsm.MemberSucceeded || m.Stage != s.r.Stage+1 {
				continue
			}
			shown := fsm.ShownTarget
			if s.devices[i].later {
				shown = fsm.ShownOther
			}
			s.step(i, fsm.Input{Kind: fsm.InputShown, Shown: shown, Text: "1.0.0"})
		}
		s.step(-1, fsm.Input{Kind: fsm.InputChecked})
	}
	if s.r.StageState == fsm.StageHealth && s.r.State == fsm.StateRunning && !s.now.Before(s.r.Until) {
		ok, reason := true, ""
		if s.health != nil {
			ok, reason = s.health(s.r.Stage, s.now.Sub(start))
		}
		s.step(-1, fsm.Input{Kind: fsm.InputHealth, OK: ok, Text: reason})
	}
}

// show notes the counters once they have changed, at most every five minutes.
func (s *story) show() {
	reasons := map[fsm.Waiting]int{}
	for i := range s.members {
		if m := &s.members[i]; m.State == fsm.MemberWaiting {
			up, sleeps := s.reachable(s.devices[i]), s.devices[i].asleep > 0
			why, _ := s.r.Waiting(m, s.now, s.zone, up || sleeps, sleeps && !up)
			reasons[why]++
		}
	}
	var waits []string
	for why, n := range reasons {
		waits = append(waits, fmt.Sprintf("%d %s", n, cmp.Or(why, "next")))
	}
	slices.Sort(waits)
	c := s.r.Total
	counts := fmt.Sprintf("%d wait (%s), %d active (%d transfer, %d ready, %d install, %d away), %d succeeded, %d failed, %d rolled back, %d skipped",
		c.Waiting, strings.Join(waits, ", "), c.Active, s.r.Slots.Transferring, s.r.Slots.Ready, s.r.Slots.Installing,
		s.r.Slots.Away+s.r.Slots.Parked, c.Succeeded, c.Failed, c.RolledBack, c.Skipped)
	if at := s.now.Sub(start); counts != s.counts && (at%(5*time.Minute) == 0 || s.r.State == fsm.StateEnded) {
		fmt.Fprintf(&s.out, "  %-9s %s\n", at, counts)
		s.counts = counts
	}
}

func fleet(n int, odd map[int]habit) []*simDevice {
	devices := make([]*simDevice, n)
	for i := range devices {
		devices[i] = &simDevice{habit: odd[i]}
	}
	return devices
}

func usualPlan() fsm.Plan {
	return fsm.Plan{
		Stages: []fsm.Stage{
			{Size: 1, Soak: 10 * time.Minute}, {Share: 0.01, Soak: 10 * time.Minute}, {Share: 0.1, Soak: 10 * time.Minute}, {Share: 1},
		},
		Concurrency: 100, MaxFailure: 0.05, MissingAfter: 30 * time.Minute, EndAt: start.Add(30 * 24 * time.Hour),
	}
}

// TestStories plays rollouts from their start to their end, and compares what an operator sees with
// testdata/stories.golden.
func TestStories(t *testing.T) {
	away := func(from, to time.Duration) func(time.Duration) bool {
		return func(at time.Duration) bool { return at >= from && at < to }
	}
	always := func(time.Duration) bool { return true }
	var out strings.Builder
	tell := func(title string, s *story, plan fsm.Plan) {
		s.t = t
		fmt.Fprintf(&out, "%s\n%s\n", title, s.play(plan))
	}

	tell("Two hundred devices, all well.", &story{devices: fleet(200, nil)}, usualPlan())

	tell("The first device rolls back. The operator resumes, and the next one is tried.",
		&story{devices: fleet(12, map[int]habit{0: {ending: fsm.EndingRolledBack}}), orders: map[time.Duration]fsm.Input{
			time.Hour: {Kind: fsm.InputResume, Text: "that one was broken before"},
		}}, usualPlan())

	odd := map[int]habit{}
	for i := 30; i < 200; i += 3 {
		odd[i] = habit{ending: fsm.EndingFailed}
	}
	tell("A third of the last stage fails. It trips, and the operator stops it.",
		&story{devices: fleet(200, odd), orders: map[time.Duration]fsm.Input{2 * time.Hour: {Kind: fsm.InputStop, Text: "a bad image"}}}, usualPlan())

	tell("The canary is away when its turn comes, and another in the middle of its download. Both come back.",
		&story{devices: fleet(12, map[int]habit{
			0: {away: away(0, 3*time.Hour)}, 1: {transfer: 40 * time.Minute, away: away(5*time.Minute, 2*time.Hour)},
		})}, usualPlan())

	plan := usualPlan()
	plan.Concurrency, plan.EndAt = 4, start.Add(72*time.Hour)
	tell("A third of the devices sleeps, each for half an hour, and a third of all never answers.",
		&story{devices: func() []*simDevice {
			odd := map[int]habit{}
			for i := range 30 {
				switch i % 3 {
				case 1:
					odd[i] = habit{asleep: 30 * time.Minute}
				case 2:
					odd[i] = habit{away: always}
				}
			}
			return fleet(30, odd)
		}()}, plan)

	plan = usualPlan()
	plan.Stages[1].Manual = true
	tell("The second stage opens by hand, and the program does not agree for twenty minutes.",
		&story{devices: fleet(12, nil), health: func(stage int, at time.Duration) (bool, string) {
			return stage != 0 || at > 140*time.Minute, "the error rate of the backend is 12 %"
		}, orders: map[time.Duration]fsm.Input{2 * time.Hour: {Kind: fsm.InputOpen, Text: "by the operator on duty"}}}, plan)

	oslo, err := time.LoadLocation("Europe/Oslo")
	require.NoError(t, err)
	plan = usualPlan()
	plan.Stages = []fsm.Stage{{Size: 1, Soak: time.Hour}, {Share: 1}}
	plan.Concurrency = 3
	plan.Window = fsm.Window{From: 22 * 60, To: 22*60 + 9, Zone: "Europe/Oslo", Covers: fsm.CoversInstall}
	tell("Ten devices install only in nine minutes of each night, three at a time.", &story{devices: fleet(10, nil), zone: oslo}, plan)

	plan = usualPlan()
	plan.Stages = []fsm.Stage{{Size: 3, Only: true, Soak: 10 * time.Minute}, {Share: 1}}
	tell("Both canaries fail. The operator takes the risk.", &story{
		devices: fleet(6, map[int]habit{0: {ending: fsm.EndingFailed}, 1: {ending: fsm.EndingFailed}}),
		orders: map[time.Duration]fsm.Input{
			time.Hour: {Kind: fsm.InputResume}, 2 * time.Hour: {Kind: fsm.InputResume}, 3 * time.Hour: {Kind: fsm.InputOpen, Text: "these two are special"},
		},
	}, plan)

	tell("A device goes back to its old version after it has succeeded. It is tried again later.", &story{
		devices: fleet(4, map[int]habit{0: {later: true}}),
		orders:  map[time.Duration]fsm.Input{time.Hour: {Kind: fsm.InputResume}},
	}, usualPlan())

	plan = usualPlan()
	plan.EndAt = start.Add(26 * time.Hour)
	tell("Two devices are lost after Execute, and one never comes. The time of the rollout ends.",
		&story{devices: fleet(60, map[int]habit{10: {lost: true}, 11: {lost: true}, 12: {away: always}})}, plan)

	plan = usualPlan()
	plan.Interval = time.Minute
	tell("One device each minute. The operator stops it in the middle, and cancels what runs.",
		&story{devices: fleet(60, nil), orders: map[time.Duration]fsm.Input{70 * time.Minute: {Kind: fsm.InputStop, Cancels: true, Text: "another image is better"}}}, plan)

	golden(t, "testdata/stories.golden", out.String())
}
