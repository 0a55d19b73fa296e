package fsm

import (
	"slices"
	"strconv"
	"time"
)

// failure decides what follows a Result of the device that reports a failure.
func (m *machine) failure(result Result) {
	m.report(result)
	h := &m.Memory.History
	pulled := m.Delivery == DeliveryPull && !m.Memory.Installation.Begun
	switch result {
	case ResultOutOfMemory, ResultConnectionLost, ResultDeferred:
		m.retry("the device reported result " + result.String())
		return
	case ResultInvalidURI:
		if !h.Fresh && pulled {
			h.Fresh = true
			m.again(0, "the device reported result invalid_uri", m.downloadTrail()+"; the next attempt has a fresh URI")
			return
		}
	case ResultUnsupProtocol:
		if !pulled {
			break
		}
		h.Unsupported = append(slices.Clone(h.Unsupported), m.Protocol)
		if c := m.choose(); c.ok {
			m.again(0, "the device reported result unsup_proto for "+m.Protocol.String(), "; "+c.why)
			return
		}
	}
	m.end(OutcomeFailed, ReasonDeviceResult, "the device reported result "+result.String()+m.downloadTrail())
}

// downloadTrail says what the server saw of the download, to explain a failure.
func (m *machine) downloadTrail() string {
	a := m.Memory.Attempt
	if a.RefusedRepeat && !m.Memory.Installation.Begun {
		return "; " + refusedAgain
	}
	if m.Delivery != DeliveryPull || !a.Begun || a.Adopted || m.declined() || m.Memory.Installation.Begun {
		return ""
	}
	var trail string
	switch {
	case m.Bytes > 0:
		trail = "; the server sent " + strconv.FormatInt(m.Bytes, 10) + " of " + strconv.FormatInt(m.Plan.Size, 10) + " bytes"
	case a.Requested:
		trail = "; the device requested the package, and the server sent no byte of it"
	default:
		trail = "; the device has not requested the package from this server"
	}
	if a.Fault != "" {
		trail += "; " + a.Fault
	}
	return trail
}

// retry begins another attempt after a failure, with back-off, while attempts are left. A failure
// that a restart of the server caused does not count.
func (m *machine) retry(why string) {
	h := &m.Memory.History
	trail := m.downloadTrail()
	if !m.Memory.Attempt.Interrupted {
		h.Failures++
		h.Change = h.Change || m.Bytes == 0 || h.InRow >= 2
	}
	if h.Failures >= m.Plan.Attempts {
		m.end(OutcomeFailed, ReasonAttempts, why+trail+"; no attempt is left")
		return
	}
	m.again(m.retryPause(max(h.Failures-1, 0)), why, trail)
}

// again begins another attempt after a pause. In the journal, trail continues the sentence that why
// begins.
func (m *machine) again(pause time.Duration, why, trail string) {
	if pause > 0 {
		m.log(EventRetry, "%s%s; next attempt in %s", why, trail, pause)
	} else {
		m.log(EventRetry, "%s%s", why, trail)
	}
	m.Memory.Attempt, m.Memory.Installation = attempt{}, installation{}
	m.Memory.Reading.Polls, m.Memory.Reading.ReadDefer = 0, false
	m.enter(PhasePreparing)
	m.pause(pause, waitAttempt+why)
}

// pause starts the clock of the phase after a pause that is not part of it.
func (m *machine) pause(d time.Duration, why string) {
	a := &m.Memory.Attempt
	a.RetryAt = m.now.Add(d)
	a.WaitReason, a.SettleUntil = why, time.Time{}
	m.restartClock(a.RetryAt)
	m.readBy(a.RetryAt)
}
