package fsm

import "time"

// judge decides from a fresh reading. It either begins an action, plans the
// next read, or ends the update.
func (m *machine) judge(r Reading) {
	result := r.Result.Value
	if !r.Result.OK() {
		result = ResultDefault
	}
	switch {
	case m.Memory.Executed:
		m.judgeExecuted(r, result)
	case m.Memory.Begun:
		m.judgeTransfer(r, result)
	default:
		m.judgeReady(r, result)
	}
}

// judgeReady looks at a device that this attempt has not touched.
func (m *machine) judgeReady(r Reading, result Result) {
	if !m.Plan.Force && r.Version.OK() && r.Version.Value == m.Plan.Target {
		m.end(OutcomeSucceeded, ResultSuccess, ReasonAlreadyRunning, "the device runs the target version already")
		return
	}
	if m.now.Before(m.Memory.RetryAt) {
		m.readBy(m.Memory.RetryAt)
		return
	}
	m.Memory.RetryAt = time.Time{}
	m.enter(PhasePreparing)
	switch r.State.Value {
	case Updating:
		m.pollFor("device to finish another update")
	case Downloaded:
		if r.Package.OK() && r.Package.Value == m.Plan.Target && (result == ResultDefault || result == ResultDeferred) {
			m.log("adopted", "the device holds the package already")
			m.Attempt = max(m.Attempt, 1)
			m.Memory.Begun = true
			m.judgeDownloaded(r, result)
			return
		}
		m.clearDownloaded()
	case Downloading:
		m.clearDownloading()
	default:
		if result != ResultDefault && m.Memory.Resets == 0 && m.Plan.Profile.Reset == ResetEmptyURI {
			// With Result 0 a failure with the same code can be told from none.
			m.reset("clear result " + result.String())
			return
		}
		m.begin(result)
	}
}

// clearDownloaded gets rid of a package that is not ours. A new one is never
// written over it, except where the client cannot be reset.
func (m *machine) clearDownloaded() {
	switch {
	case m.Plan.Profile.Reset == ResetNone:
		m.begin(ResultDefault)
	case m.Memory.Resets == 0 || m.Memory.ResetDue:
		m.Memory.ResetDue = false
		m.reset("drop another package")
	case m.Memory.Resets < m.Plan.Attempts:
		pause := m.retryPause(m.Memory.Resets - 1)
		m.log("retry", "the device kept its package after a reset; next try in %s", pause)
		m.Memory.ResetDue = true
		m.pause(pause, "device to be reset again")
	default:
		m.end(OutcomeFailed, ResultUpdateFailed, ReasonRefused, "the device keeps another package and cannot be reset")
	}
}

// clearDownloading stops a transfer that is not ours. Some clients ignore the
// reset of a push that broke off; a new push from the first block on frees them.
func (m *machine) clearDownloading() {
	if m.Plan.Profile.Reset == ResetNone {
		m.begin(ResultDefault)
		return
	}
	if m.Memory.Resets == 0 {
		m.reset("stop another transfer")
		return
	}
	if c := m.choose(); c.ok && c.delivery == DeliveryPush {
		m.begin(ResultDefault)
		return
	}
	m.pollFor("device to finish another transfer")
}

func (m *machine) reset(why string) {
	if m.overdue() {
		return
	}
	m.Memory.Resets++
	m.log("reset", "%s", why)
	m.do(Action{Kind: ActionReset, Reset: m.Plan.Profile.Reset})
}

// begin starts an attempt: the transfer of the package.
func (m *machine) begin(before Result) {
	if m.overdue() {
		return
	}
	c := m.choose()
	if !c.ok {
		m.end(OutcomeFailed, ResultUnsupProtocol, ReasonNoDelivery, c.why)
		return
	}
	m.Attempt++
	m.Delivery, m.Protocol = c.delivery, c.protocol
	m.Bytes, m.Reported = 0, ResultDefault
	mem := &m.Memory
	mem.Begun, mem.BegunAt, mem.Before = true, m.now, before
	mem.Answered, mem.Answer = time.Time{}, CodeNone
	mem.Started, mem.Lost, mem.Interrupted = false, false, false
	mem.Why, mem.Polls, mem.SettleUntil = "device to begin its download", 0, time.Time{}
	m.enter(PhaseTransferring)
	m.restartClock(m.now)
	if c.delivery == DeliveryPush {
		m.log("push", "attempt %d: %s", m.Attempt, c.why)
		m.do(Action{Kind: ActionPush})
		return
	}
	m.log("write URI", "attempt %d: %s", m.Attempt, c.why)
	m.do(Action{
		Kind: ActionWriteURI, Protocol: c.protocol,
		PathOnly: m.Plan.Profile.PathOnly, Fresh: mem.FreshURI,
	})
}

// judgeTransfer looks at a device that was given the package or its URI.
func (m *machine) judgeTransfer(r Reading, result Result) {
	mem := &m.Memory
	switch r.State.Value {
	case Downloading:
		mem.Started = true
		if m.Delivery == DeliveryPush && !mem.Answer.OK() {
			// Or the last answer was lost, and the device is checking.
			m.settle("waits for the rest of a push that broke off", m.Plan.Limits.Settle, func() {
				m.retry("the device waits for the rest of a push that broke off", ResultConnectionLost)
			})
			return
		}
		m.pollFor("download to finish")
	case Downloaded:
		m.judgeDownloaded(r, result)
	case Updating:
		m.log("upgrade", "the device updates without Execute")
		m.executed(result)
		m.judgeExecuted(r, result)
	default:
		m.judgeIdle(r, result)
	}
}

// judgeIdle looks at a device that shows no package: it failed, it has not begun,
// or it has installed the package by itself.
func (m *machine) judgeIdle(r Reading, result Result) {
	mem := &m.Memory
	old := result == mem.Before && !mem.Started
	switch {
	case r.Version.OK() && r.Version.Value == m.Plan.Target && m.OldVersion != m.Plan.Target:
		m.end(OutcomeSucceeded, ResultSuccess, ReasonVersion, "the device runs the target version, without Execute")
	case result == ResultDefault || old && result == ResultSuccess:
		m.nothing()
	case old && m.now.Before(mem.Answered.Add(stale)):
		m.pollFor("device to begin", mem.Answered.Add(stale))
	case old && mem.Answer == CodeNone:
		// Not known to have been received: the Result is from before.
		m.nothing()
	case result == ResultSuccess:
		m.log("upgrade", "the device reports success without Execute")
		m.executed(result)
		m.judgeExecuted(r, result)
	default:
		m.failure(result)
	}
}

// nothing deals with a device that shows neither a package nor a new Result.
func (m *machine) nothing() {
	mem := &m.Memory
	if mem.Answer != CodeNone && !mem.Answer.OK() {
		m.refused()
		return
	}
	wait, why := unseen, "accepted the package but shows no download"
	switch unknown := mem.Answer == CodeNone; {
	case mem.Lost && mem.Started:
		wait, why = m.Plan.Limits.Settle, "registered anew and lost its download"
	case mem.Lost:
		wait, why = m.Plan.Limits.Settle, "registered anew and shows no download"
	case mem.Started && m.Delivery == DeliveryPull:
		wait, why = m.Plan.Limits.Settle, "dropped its download"
	case unknown && m.Delivery == DeliveryPush:
		wait, why = m.Plan.Limits.Settle, "shows nothing of a push that broke off"
	case unknown && m.Plan.Profile.WriteGrace > 0:
		wait, why = m.Plan.Profile.WriteGrace, "seems not to have received the Package URI"
	case unknown && mem.Interrupted:
		wait, why = stale, "seems not to have received the Package URI"
	case unknown:
		wait, why = writeGrace, "seems not to have received the Package URI"
	}
	m.settle(why, wait, func() { m.retry("the device "+why, ResultConnectionLost) })
}

// refused deals with a device that refused the package and gave no Result.
func (m *machine) refused() {
	mem := &m.Memory
	if m.Plan.Delivery == DeliveryAuto && m.Plan.Protocol == ProtocolAuto && !mem.Started && unsupported(mem.Answer) {
		was := m.Delivery
		if was == DeliveryPush {
			mem.RefusedPush = true
		} else {
			mem.RefusedPull = true
		}
		if c := m.choose(); c.ok && c.delivery != was {
			m.again(0, was.String()+" was refused ("+mem.Answer.String()+"), "+c.delivery.String()+" is tried")
			return
		}
		mem.RefusedPush, mem.RefusedPull = false, false
	}
	result := ResultInvalidURI
	if m.Delivery == DeliveryPush {
		result = ResultConnectionLost
	}
	m.retry(m.Delivery.String()+" was refused ("+mem.Answer.String()+")", result)
}

// unsupported reports whether a refusal can mean that the device does not take
// packages in that way.
func unsupported(code Code) bool {
	switch code {
	case CodeNotFound, CodeMethodNotAllowed, CodeTooLarge, CodeUnsupportedFormat, CodeInternalError, CodeNotImplemented:
		return true
	default:
		return false
	}
}
