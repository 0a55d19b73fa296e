package fsm

import (
	"slices"
	"time"
)

// failure applies the table of retries to a Result of the device.
func (m *machine) failure(result Result) {
	mem := &m.Memory
	switch result {
	case ResultOutOfMemory, ResultConnectionLost, ResultDeferred:
		m.retry("result "+result.String(), result)
		return
	case ResultInvalidURI:
		if !mem.FreshURI && !mem.Executed && m.Delivery == DeliveryPull {
			mem.FreshURI = true
			m.again(0, "result invalid_uri; once more with a fresh URI")
			return
		}
	case ResultUnsupProtocol:
		if m.Delivery != DeliveryPull || mem.Executed {
			break
		}
		mem.Tried = append(slices.Clone(mem.Tried), m.Protocol)
		if c := m.choose(); c.ok {
			m.again(0, "result unsup_proto for "+m.Protocol.String()+"; "+c.why)
			return
		}
	}
	m.end(OutcomeFailed, result, ReasonDeviceResult, "the device reported result "+result.String())
}

// retry starts over after a passing failure, with back-off and as long as there
// are attempts left. Failures that a restart of the server has caused are free.
func (m *machine) retry(why string, result Result) {
	mem := &m.Memory
	if !mem.Interrupted {
		mem.Failures++
	}
	if mem.Failures >= m.Plan.Attempts {
		m.end(OutcomeFailed, result, ReasonAttempts, why+"; no attempts left")
		return
	}
	m.again(m.retryPause(max(mem.Failures-1, 0)), why)
}

// again starts over after a pause.
func (m *machine) again(pause time.Duration, why string) {
	if pause > 0 {
		m.log("retry", "%s; next attempt in %s", why, pause)
	} else {
		m.log("retry", "%s", why)
	}
	mem := &m.Memory
	mem.Begun, mem.Executed, mem.Returned, mem.Proven = false, false, false, false
	mem.ExecFailed, mem.Resets, mem.ResetDue, mem.Polls = false, 0, false, 0
	mem.DeferUntil = time.Time{}
	m.enter(PhasePreparing)
	m.pause(pause, "next attempt, because: "+why)
}

// pause lets the phase begin anew after some time that is not part of it.
func (m *machine) pause(d time.Duration, why string) {
	m.Memory.RetryAt = m.now.Add(d)
	m.Memory.Why, m.Memory.SettleUntil = why, time.Time{}
	m.restartClock(m.Memory.RetryAt)
	m.readBy(m.Memory.RetryAt)
}

// choice is a way to deliver the package, or why there is none.
type choice struct {
	delivery Delivery
	protocol Protocol
	why      string
	ok       bool
}

// choose picks the delivery from request, profile, 5/0/9 and 5/0/8.
func (m *machine) choose() choice {
	switch wish := m.Plan.Delivery; {
	case wish == DeliveryPush:
		if m.Memory.HasMethod && !m.Memory.Method.Allows(DeliveryPush) {
			return choice{why: "push was asked for, but the device only pulls (5/0/9)"}
		}
		return choice{delivery: DeliveryPush, why: "push, as asked for", ok: true}
	case wish == DeliveryPull || m.Plan.Protocol != ProtocolAuto || m.Plan.Profile.PathOnly:
		if m.Memory.HasMethod && !m.Memory.Method.Allows(DeliveryPull) {
			return choice{why: "pull was asked for, but the device only takes pushes (5/0/9)"}
		}
		return m.choosePull()
	}
	push := m.Memory.HasMethod && m.Memory.Method.Allows(DeliveryPush) && !m.Memory.RefusedPush
	pull := (!m.Memory.HasMethod || m.Memory.Method.Allows(DeliveryPull)) && !m.Memory.RefusedPull
	byPush := choice{delivery: DeliveryPush, why: "push, as 5/0/9 allows", ok: true}
	if push && m.Plan.Profile.Delivery != DeliveryPull {
		return byPush
	}
	byPull := choice{why: "the device accepts neither push nor pull"}
	if pull {
		byPull = m.choosePull()
	}
	if !byPull.ok && push {
		return byPush
	}
	return byPull
}

// choosePull picks the protocol of a pull: what the request says, else the first
// that is served, listed by the device and has not been answered with Result 9.
func (m *machine) choosePull() choice {
	if m.Plan.Profile.PathOnly {
		return m.choosePath()
	}
	listed, source := m.Memory.Listed, "5/0/8"
	if len(listed) == 0 {
		listed, source = m.Plan.Profile.Protocols, "the profile"
	}
	if len(listed) == 0 {
		listed, source = []Protocol{ProtocolCoAP}, "5/0/8, which is absent"
	}
	if want := m.Plan.Protocol; want != ProtocolAuto {
		switch {
		case slices.Contains(m.Memory.Tried, want):
			return choice{why: "the device does not support " + want.String()}
		case !m.serves(want):
			return choice{why: want.String() + " was asked for, but is not served here"}
		case len(m.Memory.Listed) > 0 && !slices.Contains(listed, want):
			return choice{why: want.String() + " was asked for, but is not in 5/0/8"}
		}
		return choice{DeliveryPull, want, "pull by " + want.String() + ", as asked for", true}
	}
	order := m.Plan.Schemes
	if len(order) == 0 {
		order = listed
	}
	for _, p := range order {
		if slices.Contains(listed, p) && !slices.Contains(m.Memory.Tried, p) {
			return choice{DeliveryPull, p, "pull by " + p.String() + ", in " + source, true}
		}
	}
	return choice{why: "no protocol of " + source + " is left that is served here"}
}

// choosePath picks the protocol of a device that completes a path by itself: the
// scheme is its own business.
func (m *machine) choosePath() choice {
	p := ProtocolHTTP
	if m.Plan.Protocol != ProtocolAuto {
		p = m.Plan.Protocol
	} else if len(m.Plan.Profile.Protocols) > 0 {
		p = m.Plan.Profile.Protocols[0]
	}
	if slices.Contains(m.Memory.Tried, p) {
		return choice{why: "the device does not support " + p.String()}
	}
	return choice{DeliveryPull, p, "pull by a path, as the profile has it", true}
}

func (m *machine) serves(p Protocol) bool {
	return len(m.Plan.Schemes) == 0 || slices.Contains(m.Plan.Schemes, p)
}
