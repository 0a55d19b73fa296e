package fsm

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// done takes in the end of the action under way. The end of any other action is
// too late to matter.
func (m *machine) done(o Observation) {
	doing := m.Memory.Doing
	if doing.Kind == ActionNone || o.Action != doing.ID {
		return
	}
	m.Memory.Doing = Action{}
	switch doing.Kind {
	case ActionRead:
		m.readDone(o)
	case ActionObserve:
		m.observeDone(o)
	case ActionReset:
		m.resetDone(o)
	case ActionWriteURI:
		m.writeDone(o)
	case ActionPush:
		m.pushDone(o)
	case ActionExecute:
		m.executeDone(o)
	}
}

// observeDone goes on to the read, with or without observations: without them
// the device is polled.
func (m *machine) observeDone(o Observation) {
	switch {
	case o.Code.OK():
		m.Memory.Observed, m.Memory.Fails = true, 0
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		if m.Memory.Fails++; m.Memory.Fails < 2 {
			m.readBy(m.now.Add(m.Plan.Limits.Poll))
			return
		}
		fallthrough
	default:
		m.Memory.Observed, m.Memory.Fails = true, 0
		m.log("poll", "observing State and Result failed (%s), so they are polled", answer(o))
	}
	m.readNow()
}

// resetDone: a refusal is no failure by itself, the read decides.
func (m *machine) resetDone(o Observation) {
	if !o.Code.OK() {
		m.log("reset", "refused or unknown: %s", answer(o))
	}
	m.readNow()
}

func (m *machine) writeDone(o Observation) {
	m.Memory.Answered, m.Memory.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device accepted the Package URI")
		m.restartClock(m.now)
		m.readBy(m.now.Add(min(firstLook, m.Plan.Limits.Poll)))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "the Package URI was not acknowledged (%s)", answer(o))
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		m.log("refused", "the Package URI was answered %s", answer(o))
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) pushDone(o Observation) {
	m.Memory.Answered, m.Memory.Answer = m.now, o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device has all bytes")
		m.Memory.Started = true
		m.hasPackage()
		m.restartClock(m.now)
		m.readBy(m.now.Add(debounce))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "the push broke off (%s)", answer(o))
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		m.log("refused", "the push was answered %s", answer(o))
		m.readBy(m.now.Add(debounce))
	}
}

func (m *machine) executeDone(o Observation) {
	m.Memory.ExecCode = o.Code
	switch {
	case o.Code.OK():
		m.log("accepted", "the device accepted Execute")
		m.readBy(m.now.Add(min(firstLook, m.Plan.Limits.Poll)))
	case o.Code == CodeNone || o.Code == CodeServiceUnavailable:
		m.log("unknown", "Execute was not acknowledged (%s)", answer(o))
		m.readBy(m.now.Add(m.Plan.Limits.Poll))
	default:
		// 4.05 can be the second copy of a request whose answer was lost.
		m.log("refused", "Execute was answered %s", answer(o))
		m.readBy(m.now.Add(debounce))
	}
}

// answer puts an answer and its cause into words.
func answer(o Observation) string {
	if o.Detail == "" {
		return o.Code.String()
	}
	return o.Code.String() + ", " + strings.ToValidUTF8(o.Detail[:min(len(o.Detail), maxDetail)], "")
}

const (
	// maxVersion is the longest version, in bytes, that counts as one.
	maxVersion = 255
	// maxDetail bounds a foreign text in the journal, in bytes.
	maxDetail = 255
)

// bounded keeps of a reading only what can be stored: a device may send
// anything.
func bounded(r Reading) Reading {
	if len(r.Version.Value) > maxVersion {
		r.Version = Refused[string](CodeTooLarge)
	}
	var known []Protocol
	for _, p := range r.Protocols.Value {
		if p.Number() >= 0 && !slices.Contains(known, p) {
			known = append(known, p)
		}
	}
	r.Protocols.Value = known
	return r
}

// readDone takes in what was read and judges it.
func (m *machine) readDone(o Observation) {
	r := bounded(o.Reading)
	if why := m.unusable(r); why != "" {
		m.Memory.Fails++
		if n := m.Memory.Fails; n&(n-1) == 0 {
			m.log("unread", "%s (%d in a row)", why, n)
		}
		m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, m.Memory.Fails-1)))
		return
	}
	first := m.Memory.LastRead.IsZero()
	m.Memory.Fails, m.Memory.Resumed, m.Memory.LastRead = 0, time.Time{}, m.now
	m.take(r, first)
	m.judge(r)
}

// unusable says why a reading cannot be judged. A device that does not answer is
// asked again; one that refuses a resource other than State does not have it.
func (m *machine) unusable(r Reading) string {
	silent := func(code Code) bool { return code == CodeNone || code == CodeServiceUnavailable }
	switch {
	case !r.State.OK():
		return "5/0/3: " + r.State.Code.String()
	case !r.State.Value.Known():
		return "5/0/3: state " + r.State.Value.String() + " does not exist"
	case m.Memory.Fails >= 3:
		return "" // good enough
	case silent(r.Result.Code):
		return "5/0/5: " + r.Result.Code.String()
	case silent(r.Version.Code):
		return "3/0/3: " + r.Version.Code.String()
	default:
		return ""
	}
}

// take records what was read.
func (m *machine) take(r Reading, first bool) {
	result := r.Result.Value
	if !r.Result.OK() {
		result = ResultDefault
	}
	if r.State.Value != m.State || m.Memory.Begun && result != ResultDefault && result != m.Reported || first {
		m.log("read", "state %s, result %s, version %s", r.State.Value, result, versionText(r))
		m.Memory.Polls = 0
	}
	m.State = r.State.Value
	if m.Memory.Begun && result != ResultDefault {
		m.Reported = result
	}
	if r.Version.OK() {
		m.Version = r.Version.Value
	}
	if r.Version.OK() && !m.Memory.Looked && !m.Memory.Executed {
		m.Memory.Looked, m.OldVersion = true, m.Version
	}
	if r.Protocols.OK() {
		m.Memory.Listed = r.Protocols.Value
	}
	if r.Delivery.OK() && r.Delivery.Value >= PullOnly && r.Delivery.Value <= PushAndPull {
		m.Memory.Method, m.Memory.HasMethod = r.Delivery.Value, true
	}
}

func versionText(r Reading) string {
	if !r.Version.OK() {
		return "unreadable (" + r.Version.Code.String() + ")"
	}
	return strconv.Quote(r.Version.Value)
}
