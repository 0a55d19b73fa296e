package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// picture is what a device shows in each read.
type picture struct {
	state   fsm.State
	result  fsm.Result
	version string // "": cannot be read
	holds   bool   // the stored facts name the package
}

func (p picture) reading() fsm.Reading {
	r := fsm.Reading{
		State: fsm.Known(p.state), Result: fsm.Known(p.result),
		Version:   fsm.Refused[string](fsm.CodeNotFound),
		Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP}),
		Delivery:  fsm.Known(fsm.PullOnly),
		Offers:    []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP},
		MaxDefer:  fsm.Known(10 * time.Minute),
	}
	if p.version != "" {
		r.Version = fsm.Known(p.version)
	}
	r.Holds = p.holds
	return r
}

// hand runs an update by hand.
type hand struct {
	update  fsm.Update
	actions fsm.Actions
	now     time.Time
	said    []string
	method  fsm.DeliverySupport // 5/0/9
	auto    bool                // 5/0/14
}

// shows returns the reading of a device that shows p.
func (h *hand) shows(p picture) fsm.Reading {
	r := p.reading()
	r.Delivery, r.Auto = fsm.Known(h.method), fsm.Known(h.auto)
	return r
}

// reads lets time pass until the next read has ended, with p, and the Observe that may follow it.
func (h *hand) reads(p picture) {
	for range 100 {
		switch h.update.Doing().Kind {
		case fsm.ActionNone:
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		case fsm.ActionRead:
			h.done(fsm.CodeContent, h.shows(p))
			if h.update.Doing().Kind == fsm.ActionObserve {
				actions := h.actions
				h.done(fsm.CodeContent, h.shows(p))
				h.actions.Journal = append(actions.Journal, h.actions.Journal...)
				h.actions.Persist = h.actions.Persist || actions.Persist
			}
			return
		case fsm.ActionObserve:
			h.done(fsm.CodeContent, h.shows(p))
		default:
			h.done(fsm.CodeContent, fsm.Reading{})
		}
	}
}

// looks lets time pass until the next look has ended, with p: a read as in reads, or an Observe
// whose answer says enough.
func (h *hand) looks(p picture) {
	for h.update.Doing().Kind == fsm.ActionNone {
		h.now = h.update.Wake()
		h.step(fsm.Observation{Kind: fsm.ObserveTimer})
	}
	if h.update.Doing().Kind == fsm.ActionObserve {
		if h.done(fsm.CodeContent, h.shows(p)); h.update.Doing().Kind == fsm.ActionNone {
			return
		}
	}
	h.reads(p)
}

func (h *hand) step(o fsm.Observation) {
	o.At = h.now
	h.update, h.actions = h.update.Step(o)
	if want := outcomeOf(h.update.Reason); h.update.Outcome != want {
		panic(fmt.Sprintf("reason %s with outcome %s, not %s", h.update.Reason, h.update.Outcome, want))
	}
	for _, e := range h.actions.Journal {
		switch e.Event {
		case fsm.EventRetry, fsm.EventDeferred, fsm.EventSettling, fsm.EventAdopted, fsm.EventReset, fsm.EventAutoUpgrade:
			h.said = append(h.said, e.Event+": "+e.Detail)
		}
	}
}

// outcomeOf returns the outcome that belongs to a reason.
func outcomeOf(reason fsm.Reason) fsm.Outcome {
	switch reason {
	case "":
		return fsm.OutcomeNone
	case fsm.ReasonVersion, fsm.ReasonResult, fsm.ReasonSameVersion, fsm.ReasonAlreadyRunning:
		return fsm.OutcomeSucceeded
	case fsm.ReasonOldVersion:
		return fsm.OutcomeRolledBack
	case fsm.ReasonOperator:
		return fsm.OutcomeCancelled
	case fsm.ReasonPhaseLimit, fsm.ReasonDeadline:
		return fsm.OutcomeTimedOut
	default:
		return fsm.OutcomeFailed
	}
}

// done ends the action under way. A read brings only what was asked for.
func (h *hand) done(code fsm.Code, r fsm.Reading) {
	switch doing := h.update.Doing(); {
	case doing.Kind == fsm.ActionObserve:
		r = fsm.Reading{State: r.State}
	case doing.Kind == fsm.ActionRead && !doing.Resources.WantsVersion(r.State):
		r.Version = fsm.Field[string]{}
	}
	h.step(fsm.Observation{Kind: fsm.ObserveDone, Action: h.update.Doing().ID, Code: code, Reading: r})
}

// until continues, with a device that always shows p, until an action other than a read is due or
// the update ends.
func (h *hand) until(p picture) string {
	h.said = nil
	from := h.now
	for {
		switch kind := h.update.Doing().Kind; {
		case !h.update.Active():
			h.said = append(h.said, fmt.Sprintf("%s (%d), %s", strings.ToUpper(string(h.update.Outcome)), h.update.Result, h.update.Reason))
			return strings.Join(h.said, "; ") + after(h.now.Sub(from))
		case kind == fsm.ActionRead || kind == fsm.ActionObserve:
			h.done(fsm.CodeContent, h.shows(p))
		case kind != fsm.ActionNone:
			what := "then " + string(kind)
			if kind == fsm.ActionWriteURI {
				what += " " + h.actions.Do.Protocol.String()
				if h.actions.Do.Fresh {
					what += ", fresh"
				}
			}
			h.said = append(h.said, what)
			return strings.Join(h.said, "; ") + after(h.now.Sub(from))
		default:
			h.now = h.update.Wake()
			h.step(fsm.Observation{Kind: fsm.ObserveTimer})
		}
	}
}

func after(d time.Duration) string {
	if d < time.Second {
		return ""
	}
	return fmt.Sprintf(" [after %s]", d.Round(time.Second))
}

func started(plan fsm.Plan) *hand {
	h := &hand{now: epoch, update: fsm.NewUpdate(plan, epoch)}
	h.step(fsm.Observation{Kind: fsm.ObserveStarted, Online: true})
	return h
}

func transferring(plan fsm.Plan) *hand {
	h := started(plan)
	h.until(picture{fsm.Idle, 0, oldVersion, false})
	h.done(fsm.CodeChanged, fsm.Reading{})
	return h
}

func executed(plan fsm.Plan, before string) *hand {
	h := started(plan)
	h.until(picture{fsm.Idle, 0, before, false})
	h.done(fsm.CodeChanged, fsm.Reading{})
	h.until(picture{fsm.Downloaded, 0, before, false})
	h.done(fsm.CodeChanged, fsm.Reading{})
	return h
}

// TestTruthTable records what the server concludes from what a device shows and keeps showing.
func TestTruthTable(t *testing.T) {
	var out strings.Builder
	header := func(s string) { fmt.Fprintf(&out, "\n## %s\n", s) }
	row := func(p picture, extra, verdict string) {
		version := p.version
		if version == "" {
			version = "unreadable"
		}
		fmt.Fprintf(&out, "%-11s | %2d %-17s | %-10s | %-14s | %s\n", title(p.state), p.result, p.result, version, extra, verdict)
	}
	out.WriteString("# What the server concludes (old version 1.0.0, target 1.1.0, pull, default limits)\n")
	fmt.Fprintf(&out, "%-11s | %-20s | %-10s | %-14s | %s\n", "State", "Result", "Version", "", "verdict [if the device goes on showing this]")
	states := []fsm.State{fsm.Idle, fsm.Downloading, fsm.Downloaded, fsm.Updating}
	results := []fsm.Result{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 42}
	plan := fsm.Plan{Target: newVersion}

	header("At the start")
	for _, state := range states {
		for _, result := range []fsm.Result{0, 1, 8} {
			p := picture{state, result, oldVersion, false}
			row(p, "", started(plan).until(p))
		}
	}
	p := picture{fsm.Idle, 0, newVersion, false}
	row(p, "", started(plan).until(p))
	row(p, "force", started(fsm.Plan{Target: newVersion, Force: true}).until(p))
	p = picture{fsm.Idle, 0, "", false}
	row(p, "", started(plan).until(p))
	for _, result := range []fsm.Result{0, 8, 11} {
		p = picture{fsm.Downloaded, result, oldVersion, true}
		row(p, "facts: holds", started(plan).until(p))
	}

	header("After the Package URI was accepted")
	for _, state := range states {
		for _, result := range results {
			if state != fsm.Idle && result != 0 && result != 8 && result != 11 {
				continue
			}
			p := picture{state, result, oldVersion, false}
			row(p, "", transferring(plan).until(p))
		}
	}
	p = picture{fsm.Idle, 0, newVersion, false}
	row(p, "", transferring(plan).until(p))

	for _, returned := range []bool{false, true} {
		if returned {
			header("After Execute, and a new registration")
		} else {
			header("After Execute")
		}
		for _, verify := range []fsm.Verify{fsm.VerifyVersion, fsm.VerifyResult} {
			plan := fsm.Plan{Target: newVersion, Verify: verify}
			for _, state := range states {
				for _, result := range results {
					for _, version := range []string{newVersion, oldVersion, "1.0.5", ""} {
						common := result <= 1 || result == 8
						if version == "1.0.5" && result > 1 || !common && (version == newVersion || version == "") ||
							state != fsm.Idle && (!common && result != 11 || version == "1.0.5" || version == "") ||
							verify == fsm.VerifyResult && (!common || state != fsm.Idle) {
							continue
						}
						p := picture{state, result, version, false}
						h := executed(plan, oldVersion)
						if returned {
							h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
						}
						row(p, "verify "+string(verify), h.until(p))
					}
				}
			}
		}
		forced := fsm.Plan{Target: newVersion, Force: true}
		for _, result := range []fsm.Result{0, 1, 8} {
			p := picture{fsm.Idle, result, newVersion, false}
			h := executed(forced, newVersion)
			if returned {
				h.step(fsm.Observation{Kind: fsm.ObserveRegistered})
			}
			row(p, "force, same", h.until(p))
		}
	}

	header("The same failure in every attempt")
	for _, result := range results[2:] {
		h := started(plan)
		var steps []string
		p := picture{fsm.Idle, 0, oldVersion, false}
		for h.update.Active() {
			steps = append(steps, strings.TrimPrefix(h.until(p), "then "))
			if h.update.Doing().Kind == fsm.ActionWriteURI {
				p.result = result
			} else {
				p.result = 0
			}
			if h.update.Active() {
				h.done(fsm.CodeChanged, fsm.Reading{})
			}
		}
		row(picture{fsm.Idle, result, oldVersion, false}, "", "\n    "+strings.Join(steps, "\n    "))
	}
	golden(t, "testdata/truth_table.golden", out.String())
}
