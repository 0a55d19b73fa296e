package httpapi

import (
	"math"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
)

type rolloutView struct {
	ID      string         `json:"id"`
	Name    string         `json:"name"`
	Image   string         `json:"image"`
	State   string         `json:"state"`
	Reason  string         `json:"reason"` // a sentence
	Cause   string         `json:"cause"`  // of a pause, a stop or an end
	Until   *time.Time     `json:"until"`  // null if no time ends it
	Stage   int            `json:"stage"`  // number of the open stage, from 1; 0 before the start
	Stages  []stageView    `json:"stages"`
	Members map[string]int `json:"members"` // by state
	Places  placesView     `json:"places"`
	Waiting *waitingView   `json:"waiting,omitempty"` // of a single rollout
	Orders  []effectView   `json:"orders,omitzero"`   // of a single rollout

	Concurrency int         `json:"concurrency"`
	Rate        *float64    `json:"rate"`
	MaxFailure  float64     `json:"max_failure"`
	Missing     string      `json:"missing_after"`
	Window      *windowBody `json:"window"`
	StartAt     *time.Time  `json:"start_at"`
	EndAt       time.Time   `json:"end_at"`
	*askedView              // of a single rollout

	Lines   uint64     `json:"lines"` // number of the last line of its journal
	Created time.Time  `json:"created"`
	Started *time.Time `json:"started"`
	Ended   *time.Time `json:"ended"`
}

// An askedView is what a rollout keeps of its request, beside the plan.
type askedView struct {
	Downgrade bool        `json:"downgrade"`
	Select    any         `json:"select"` // null if the targets were listed
	Update    optionsView `json:"update"`
	Notes     string      `json:"notes"`
}

type stageView struct {
	Size       any        `json:"size"`           // a number, or a share such as "10%"
	Ceiling    int        `json:"ceiling"`        // devices that it and the stages before it admit
	Only       any        `json:"only,omitempty"` // of a single rollout
	Manual     bool       `json:"manual"`
	Soak       string     `json:"soak"`
	Admitted   int        `json:"admitted"`
	Active     int        `json:"active"`
	Succeeded  int        `json:"succeeded"`
	Failed     int        `json:"failed"`
	RolledBack int        `json:"rolled_back"`
	Skipped    int        `json:"skipped"`
	Opened     *time.Time `json:"opened"`
}

// placesView says what active members do.
type placesView struct {
	Transferring int `json:"transferring"`
	Ready        int `json:"ready"`
	Installing   int `json:"installing"`
	Away         int `json:"away"`
	Missing      int `json:"missing"`
}

// waitingView says why members wait.
type waitingView struct {
	Examined int            `json:"examined"` // of those that wait, at most maxExamined
	Reasons  map[string]int `json:"reasons"`
}

type optionsView struct {
	Delivery string `json:"delivery"`
	Protocol string `json:"protocol"`
	Verify   string `json:"verify"`
	Deadline string `json:"deadline"` // "": that of the server
	Attempts int    `json:"attempts"` // 0: that of the server
	Force    bool   `json:"force"`
	Profile  string `json:"profile"`
	Labels   labels `json:"labels"`
}

// moment returns a time as an answer has it, null if it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(instant(t))
}

// effectView is an order that the state of a rollout allows, and what it would do.
type effectView struct {
	Order    string            `json:"order"`
	Mode     string            `json:"mode,omitempty"`     // of stop
	Outcomes []rollout.Outcome `json:"outcomes,omitempty"` // of retry
	Effect   string            `json:"effect"`             // a sentence
}

func viewEffects(r rollout.Rollout) []effectView {
	list := []effectView{}
	for _, e := range rollout.Effects(r) {
		v := effectView{Order: string(e.Action), Outcomes: e.Outcomes, Effect: e.Text}
		switch {
		case e.Cancels:
			v.Mode = "cancel"
		case e.Action == rollout.ActionStop:
			v.Mode = "finish"
		}
		list = append(list, v)
	}
	return list
}

// viewRollout returns a rollout as lists show it.
func viewRollout(r rollout.Rollout) rolloutView {
	m := &r.Machine
	reason, until := rollout.Describe(r)
	v := rolloutView{
		ID: r.ID, Name: r.Name, Image: r.Image, State: string(m.State), Reason: reason, Cause: string(m.Reason), Until: moment(until),
		Stages: make([]stageView, len(m.Plan.Stages)),
		Members: map[string]int{
			string(fsm.MemberWaiting): m.Total.Waiting, string(fsm.MemberActive): m.Total.Active,
			string(fsm.MemberSucceeded): m.Total.Succeeded, string(fsm.MemberFailed): m.Total.Failed,
			string(fsm.MemberRolledBack): m.Total.RolledBack, string(fsm.MemberSkipped): m.Total.Skipped,
		},
		Places: placesView{
			Transferring: m.Slots.Transferring, Ready: m.Slots.Ready + m.Slots.Parked, Installing: m.Slots.Installing,
			Away: m.Slots.Away, Missing: m.Slots.Missing,
		},
		Concurrency: m.Plan.Concurrency, Rate: viewRate(m.Plan.Interval), MaxFailure: m.Plan.MaxFailure, Missing: durationText(m.Plan.MissingAfter),
		Window: viewWindow(&m.Plan.Window), StartAt: moment(m.Plan.StartAt), EndAt: instant(m.Plan.EndAt),
		Lines: r.Lines, Created: instant(r.Created), Started: moment(m.Started), Ended: moment(m.Ended),
	}
	if !m.Started.IsZero() {
		v.Stage = m.Stage + 1
	}
	ceilings := m.Plan.Ceilings(m.Total.Targets())
	for i, stage := range m.Plan.Stages {
		c := m.Stages[i]
		v.Stages[i] = stageView{
			Size: viewSize(stage), Ceiling: ceilings[i], Manual: stage.Manual, Soak: durationText(stage.Soak), Admitted: c.Admitted(), Active: c.Active,
			Succeeded: c.Succeeded, Failed: c.Failed, RolledBack: c.RolledBack, Skipped: c.Skipped, Opened: moment(m.Opened[i]),
		}
	}
	return v
}

// viewWhole returns a rollout with what it keeps of its request, which may be 64 KiB.
func viewWhole(r rollout.Rollout) rolloutView {
	v := viewRollout(r)
	asked, err := rollout.RequestOf(r)
	if err != nil {
		return v
	}
	v.askedView = &askedView{Downgrade: asked.Downgrade, Notes: asked.Notes, Update: viewOptions(asked.Update)}
	if asked.Select != nil {
		v.Select = asked.Select
	}
	for i := range v.Stages {
		if r.Machine.Plan.Stages[i].Only {
			v.Stages[i].Only = asked.Only[i]
		}
	}
	return v
}

func viewOptions(u firmware.Request) optionsView {
	v := optionsView{
		Delivery: u.Delivery.String(), Protocol: u.Protocol.String(), Verify: string(u.Verify), Attempts: u.Attempts,
		Force: u.Force, Profile: u.Profile, Labels: u.Labels,
	}
	if u.Deadline > 0 {
		v.Deadline = durationText(u.Deadline)
	}
	return v
}

func viewWindow(w *rollout.Window) *windowBody {
	if w.Zone == "" {
		return nil
	}
	v := &windowBody{From: clockText(w.From), To: clockText(w.To), Zone: w.Zone, Fallback: w.Fallback, Covers: string(w.Covers)}
	for _, day := range w.Days {
		v.Days = append(v.Days, dayNames[day])
	}
	return v
}

func clockText(minute int) string {
	return time.Date(0, 1, 1, 0, minute, 0, 0, time.UTC).Format("15:04")
}

// durationText returns a duration such as 10m, without the zeros of 10m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		text = text[:len(text)-len("0s")]
		if d%time.Hour == 0 {
			text = text[:len(text)-len("0m")]
		}
	}
	return text
}

// memberView is one device of a rollout.
type memberView struct {
	Endpoint string     `json:"endpoint"`
	State    string     `json:"state"`
	Reason   string     `json:"reason"` // why it waits, or why it was skipped
	Detail   string     `json:"detail"` // of the reason: the update that is in the way, or an error
	Until    *time.Time `json:"until"`  // null if no time ends it
	Stage    int        `json:"stage"`  // that admitted it, from 1; 0 for none
	Place    string     `json:"place"`  // of an active member
	Missing  bool       `json:"missing"`
	Attempt  int        `json:"attempt"` // admissions
	Update   string     `json:"update"`  // id of the last one
	Later    *laterView `json:"later"`   // what it showed after it had succeeded
}

func viewMember(m *rollout.Member, why fsm.Waiting, until time.Time) memberView {
	x := &m.Machine
	v := memberView{
		Endpoint: m.Endpoint, State: string(x.State), Reason: string(why), Until: moment(until), Stage: x.Stage,
		Missing: x.Missing, Attempt: x.Attempt, Update: x.Update,
	}
	switch {
	case x.State == fsm.MemberSkipped:
		v.Reason = string(x.Skip)
	case why == fsm.WaitingBusy:
		v.Detail = x.Busy
	case why == fsm.WaitingRetry:
		v.Detail = x.Failed
	}
	if x.State == fsm.MemberActive {
		v.Place = string(x.Place)
	}
	if !x.LaterAt.IsZero() {
		v.Later = &laterView{x.Later, instant(x.LaterAt)}
	}
	return v
}

// rolloutLineView is a line of the journal of a rollout.
type rolloutLineView struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Event    string    `json:"event"`
	Detail   string    `json:"detail"`
	Endpoint string    `json:"endpoint"` // of the device that it is about; "" if it is about the rollout
	Actor    string    `json:"actor"`    // "" for the server
}

func viewLine(e rollout.Event) rolloutLineView {
	return rolloutLineView{Seq: e.Seq, Time: instant(e.Time), Event: e.Name, Detail: e.Detail, Endpoint: e.Endpoint, Actor: e.Actor}
}

type dryRunView struct {
	ID       string      `json:"id"`
	Targets  int         `json:"targets"`
	First    []string    `json:"first"`
	Stages   []int       `json:"stages"`
	Versions []tallyView `json:"versions"`
	Skipped  []tallyView `json:"skipped"`
	Unheld   []tallyView `json:"unheld"`
	Plan     planView    `json:"plan"` // with the defaults
}

// planView has the fields of a rollout that have defaults.
type planView struct {
	Stages      []plannedView `json:"stages"`
	Concurrency int           `json:"concurrency"`
	Rate        *float64      `json:"rate"`
	MaxFailure  float64       `json:"max_failure"`
	Missing     string        `json:"missing_after"`
	Window      *windowBody   `json:"window"`
	StartAt     *time.Time    `json:"start_at"`
	EndAt       time.Time     `json:"end_at"`
}

type plannedView struct {
	Size   any    `json:"size"`
	Manual bool   `json:"manual"`
	Soak   string `json:"soak"`
}

func viewPlan(p *fsm.Plan) planView {
	v := planView{
		Stages: []plannedView{}, Concurrency: p.Concurrency, Rate: viewRate(p.Interval), MaxFailure: p.MaxFailure,
		Missing: durationText(p.MissingAfter), Window: viewWindow(&p.Window), StartAt: moment(p.StartAt), EndAt: instant(p.EndAt),
	}
	for _, stage := range p.Stages {
		v.Stages = append(v.Stages, plannedView{viewSize(stage), stage.Manual, durationText(stage.Soak)})
	}
	return v
}

// viewRate returns admissions a minute, as they were asked for; nil for no limit.
func viewRate(interval time.Duration) *float64 {
	if interval <= 0 {
		return nil
	}
	rate := float64(time.Minute) / float64(interval)
	rate, _ = strconv.ParseFloat(strconv.FormatFloat(rate, 'g', 6, 64), 64)
	return &rate
}

// viewSize returns the size of a stage, a number or a share such as "10%".
func viewSize(s rollout.Stage) any {
	if s.Size > 0 {
		return s.Size
	}
	return strconv.FormatFloat(math.Round(s.Share*1e11)/1e9, 'f', -1, 64) + "%"
}

// A tallyView counts devices that have a version, a reason or a way of delivery in common.
type tallyView struct {
	Version  *string  `json:"version,omitempty"` // "" if it is not known
	Reason   string   `json:"reason,omitempty"`
	How      string   `json:"how,omitempty"` // they take packages
	Devices  int      `json:"devices"`
	Examples []string `json:"examples"`
}

func viewDryRun(run rollout.DryRun) dryRunView {
	v := dryRunView{ID: run.ID, Targets: run.Targets, First: run.First, Stages: run.Stages, Plan: viewPlan(&run.Plan)}
	if v.First == nil {
		v.First = []string{}
	}
	tallies := func(list []rollout.Tally, name func(*tallyView, string)) []tallyView {
		views := make([]tallyView, len(list))
		for i, t := range list {
			views[i] = tallyView{Devices: t.Devices, Examples: t.Examples}
			name(&views[i], t.Name)
		}
		return views
	}
	v.Versions = tallies(run.Versions, func(t *tallyView, name string) { t.Version = &name })
	v.Skipped = tallies(run.Skipped, func(t *tallyView, name string) { t.Reason = name })
	v.Unheld = tallies(run.Unheld, func(t *tallyView, name string) { t.How = name })
	return v
}
