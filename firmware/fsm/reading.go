package fsm

import (
	"slices"
	"time"
)

// readDone records a reading, and decides by it. The server asked for asked.
func (m *machine) readDone(o *Observation, asked Resources) {
	r, rd := o.Reading, &m.Memory.Reading
	r.Protocols.Value = known(r.Protocols.Value)
	rd.Silent = r.State.Code == CodeNone
	switch {
	case r.State.OK() && r.State.Value.known():
		if why := rd.partial(r, asked); why != "" {
			m.readFailed(why)
			return
		}
		rd.Missing = 0
		m.recordReading(r)
		m.judge(r)
	case r.State.OK():
		m.objectUnusable(r, ReasonBadState, "the device shows state "+r.State.Value.String()+", which does not exist")
	case r.State.Code == CodeNotFound || r.State.Code == CodeMethodNotAllowed:
		m.objectUnusable(r, ReasonNoObject, "the device answered "+r.State.Code.String()+" to Read 5/0/3")
	default:
		if r.State.Code != CodeNone {
			o.Detail = "" // the detail is about another request
		}
		o.Code = r.State.Code
		m.readFailed(answer(o, "Read 5/0/3"))
	}
}

// known returns a list of protocols that can be stored: a device may send anything.
func known(list []Protocol) []Protocol {
	var known []Protocol
	for _, p := range list {
		if p.Number() >= 0 && !slices.Contains(known, p) {
			known = append(known, p)
		}
	}
	return known
}

// partial returns what a reading with a State lacks. If the device did not answer for the rest, the
// server reads again, at most three times, but without end to learn whether the image is made for
// the device.
func (rd *reading) partial(r Reading, asked Resources) string {
	silent := func(code Code) bool { return code == CodeNone || code == codeServiceUnavailable }
	switch {
	case silent(r.Device.Code) && asked.Has(ReadDevice):
		return answer(&Observation{Code: r.Device.Code}, "Read 3/0")
	case rd.Fails >= 3:
		return "" // good enough
	case silent(r.Result.Code):
		return answer(&Observation{Code: r.Result.Code}, "Read 5/0/5")
	case silent(r.Version.Code) && asked.WantsVersion(r.State):
		return answer(&Observation{Code: r.Version.Code}, "Read 3/0/3")
	default:
		return ""
	}
}

// readFailed plans another read after one without a value.
func (m *machine) readFailed(why string) {
	r := &m.Memory.Reading
	r.Fails++
	if n := r.Fails; n&(n-1) == 0 {
		m.log(EventReadFailed, "%s (%d in a row)", why, n)
	}
	m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, r.Fails-1)))
}

// objectUnusable handles a device that answers but shows no usable Object 5. Before anything was
// written, the second such read ends the update. Later it means nothing: the device may be booting,
// or run a new firmware without that object; then its version decides, or the limit of the phase.
func (m *machine) objectUnusable(r Reading, reason Reason, why string) {
	rd := &m.Memory.Reading
	rd.Fails, m.Memory.Clock.Resumed = 0, time.Time{}
	rd.Missing++
	v := m.readVersion(r)
	wrote := m.Memory.History.Written || m.Memory.Attempt.Begun
	switch {
	case !wrote && !m.Plan.Force && v.is(m.Plan.Target):
		m.end(OutcomeSucceeded, ReasonAlreadyRunning, "the device runs the target version already; "+why)
		return
	case wrote && v.is(m.Plan.Target) && !rd.Old.is(m.Plan.Target):
		m.end(OutcomeSucceeded, ReasonVersion, "the device runs the target version; "+why)
		return
	case !wrote && rd.Missing >= 2:
		m.end(OutcomeFailed, reason, "the device has no Firmware Update object that can be used: "+why)
		return
	}
	if n := rd.Missing; n&(n-1) == 0 {
		m.log(EventObjectUnusable, "%s (%d in a row)", why, n)
	}
	m.readBy(m.now.Add(backoff(m.Plan.Limits.Poll, rd.Missing-1)))
}

// recordReading records what was read.
func (m *machine) recordReading(r Reading) {
	rd := &m.Memory.Reading
	first := rd.Last.IsZero()
	rd.Fails, rd.Last, m.Memory.Clock.Resumed = 0, m.now, time.Time{}
	result := resultOf(r)
	v := m.readVersion(r)
	if a := &m.Memory.Attempt; a.Begun && r.Result.OK() && result != a.Before {
		a.Cleared = true
	}
	if r.State.Value != m.State || result != ResultDefault && result != m.Reported && m.fresh(result) || first {
		text := ", version " + v.String()
		switch {
		case r.Version.Code == CodeNone:
			text = ""
		case !r.Version.OK():
			text = ", version unreadable (" + r.Version.Code.String() + ")"
		}
		m.log(EventRead, "state %s, result %s%s", r.State.Value, result, text)
		rd.Polls = 0
	}
	m.State = r.State.Value
	if m.fresh(result) {
		m.report(result)
	}
	if r.Protocols.OK() {
		rd.Listed = r.Protocols.Value
	}
	if r.Delivery.OK() && r.Delivery.Value >= PullOnly && r.Delivery.Value <= PushAndPull {
		rd.Method, rd.HasMethod = r.Delivery.Value, true
	}
	if !m.Memory.Attempt.Begun {
		rd.Auto = r.Auto.OK() && r.Auto.Value
		rd.Offers = known(r.Offers)
	}
}

// recordState records a State that was read alone.
func (m *machine) recordState(state State) {
	rd := &m.Memory.Reading
	rd.Last, m.Memory.Clock.Resumed = m.now, time.Time{}
	if state != m.State {
		m.log(EventRead, "state %s", state)
		m.State, rd.Polls = state, 0
	}
}

// readVersion records what 3/0/3 says. Before an installation it is the old version.
func (m *machine) readVersion(r Reading) version {
	rd := &m.Memory.Reading
	v, stripped := versionOf(r.Version)
	if stripped && v != rd.Version {
		m.log(EventVersionTrimmed, "the device sent 3/0/3 with blanks or a NUL around %q; the server ignores them", v.Text)
	}
	if r.Version.OK() {
		rd.Version, m.Version = v, v.Text
	}
	if v.says() && !rd.OldRead && !m.Memory.Installation.Begun {
		rd.OldRead, rd.Old, m.OldVersion = true, v, v.Text
	}
	return v
}

// resultOf returns the Result of a reading; ResultDefault if the device does not show it.
func resultOf(r Reading) Result {
	if !r.Result.OK() {
		return ResultDefault
	}
	return r.Result.Value
}

// fresh reports whether a Result can only belong to this attempt.
func (m *machine) fresh(result Result) bool { return m.Memory.Attempt.Begun && !m.old(result) }

// old reports whether a Result may be the one that the device showed before the attempt. A device
// clears it when it begins a download; only of Result 1, which the server did not reset, that has
// to be seen.
func (m *machine) old(result Result) bool {
	a, begun := m.Memory.Attempt, m.Memory.Installation.Begun
	switch {
	case result != a.Before || a.Cleared || begun:
		return false
	case result == ResultSuccess && m.runsOld():
		return true
	default:
		return !a.Started
	}
}

// mistakable reports whether a Result from before the attempt could be taken for one of the
// attempt, so that the server has to clear it. Result 1 cannot where the version proves the
// success.
func (m *machine) mistakable(result Result) bool {
	proven := m.Plan.Verify == VerifyVersion && m.Memory.Reading.Old.says() && !m.sameVersion()
	return result != ResultDefault && (result != ResultSuccess || !proven)
}

// failure reports whether r is a failure that Object 5 of every version knows.
func (r Result) failure() bool { return r >= ResultNoStorage && r <= ResultUnsupProtocol }

// report records a Result that belongs to this update.
func (m *machine) report(result Result) {
	if result == ResultDefault || result == m.Reported {
		return
	}
	m.Reported = result
	if result.failure() {
		m.Failure = result
	}
}
