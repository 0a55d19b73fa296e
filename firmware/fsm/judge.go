package fsm

import "time"

// judge decides by a reading: it begins an action, plans the next read, or ends the update.
func (m *machine) judge(r Reading) {
	result := resultOf(r)
	switch {
	case m.Memory.Installation.Begun:
		m.judgeInstallation(r, result)
	case m.Memory.Attempt.Begun:
		m.judgeTransfer(r, result)
	default:
		m.judgeReady(r, result)
	}
}

// judgeReady decides for a device that this attempt has not written to.
func (m *machine) judgeReady(r Reading, result Result) {
	a := &m.Memory.Attempt
	if m.unfit() {
		switch {
		case !r.Device.OK():
			m.readNow()
			return
		case m.Plan.Compatible.Mismatch(r.Device.Value) != "":
			m.end(OutcomeFailed, ReasonIncompatible, m.Plan.Compatible.Mismatch(r.Device.Value))
			return
		}
		m.Memory.Reading.Fits = true
	}
	if m.Memory.Reading.Version.is(m.Plan.Target) && r.Version.OK() {
		switch {
		case m.Memory.History.Written && !m.Memory.Reading.Old.is(m.Plan.Target):
			m.end(OutcomeSucceeded, ReasonVersion, "the device runs the target version")
			return
		case !m.Plan.Force:
			m.end(OutcomeSucceeded, ReasonAlreadyRunning, "the device runs the target version already")
			return
		}
	}
	if m.now.Before(a.RetryAt) {
		m.readBy(a.RetryAt)
		return
	}
	if r.State.Value == Downloaded && r.Holds && (result == ResultDefault || result == ResultDeferred) {
		m.adopt(r, result)
		return
	}
	if c := m.choose(); !c.ok {
		// Waiting for the device to finish something else would not help.
		m.noWay(c)
		return
	}
	if m.held() && (m.Memory.Reading.Auto || m.Memory.History.AutoUpgraded) {
		// The device would install the package without Execute.
		a.HeldBack = true
		m.readWhileHeld(waitHold + ", because the device installs without Execute")
		return
	}
	a.HeldBack = false
	switch r.State.Value {
	case Updating:
		m.pollFor(waitOther)
	case Downloaded:
		m.clearDownloaded()
	case Downloading:
		m.clearDownloading()
	default:
		if m.mistakable(result) && a.Resets == 0 && m.Plan.Profile.Reset == ResetEmptyURI {
			// After Result 0 the server can tell a new failure with the same code from an old one.
			m.reset("clear result " + result.String())
			return
		}
		a.Idle = true
		m.begin(result)
	}
}

// unfit reports whether the image may not be made for the device.
func (m *machine) unfit() bool {
	return !m.Memory.Reading.Fits && !m.Plan.Force && m.Plan.Compatible != Compatible{}
}

// clearDownloaded removes a package that is not known to be this update's. Only if the client
// cannot be reset does the server write over it.
func (m *machine) clearDownloaded() {
	a := &m.Memory.Attempt
	switch {
	case m.Plan.Profile.Reset == ResetNone:
		m.begin(ResultDefault)
	case a.Resets == 0 || a.ResetDue:
		a.ResetDue = false
		m.reset("drop another package")
	case a.Resets < m.Plan.Attempts:
		pause := m.retryPause(a.Resets - 1)
		m.log(EventRetry, "the device has a package after the reset; next try in %s", pause)
		a.ResetDue = true
		m.pause(pause, waitReset)
	default:
		m.end(OutcomeFailed, ReasonRefused, "the device keeps another package and cannot be reset")
	}
}

// clearDownloading stops a transfer that this attempt did not begin. Some clients ignore the reset
// of a push that broke off; a new push, from its first block on, frees them.
func (m *machine) clearDownloading() {
	a := &m.Memory.Attempt
	if m.Plan.Profile.Reset == ResetNone {
		m.begin(ResultDefault)
		return
	}
	if a.Resets == 0 {
		m.reset("stop another transfer")
		return
	}
	if c := m.choose(); c.ok && c.Delivery == DeliveryPush {
		a.Stuck = true
		m.begin(ResultDefault)
		return
	}
	m.pollFor(waitOtherTransfer)
}

func (m *machine) reset(why string) {
	if m.overdue() {
		return
	}
	m.Memory.Attempt.Resets++
	m.log(EventReset, "the server resets the device to %s", why)
	m.do(Action{Kind: ActionReset, Reset: m.Plan.Profile.Reset})
}

// begin starts the transfer of the package.
func (m *machine) begin(before Result) {
	if m.overdue() {
		return
	}
	c := m.choose()
	if !c.ok {
		m.noWay(c)
		return
	}
	m.Attempt++
	m.Delivery, m.Protocol = c.Delivery, c.Protocol
	m.Bytes = 0
	m.Memory.History.take(c.way)
	a := &m.Memory.Attempt
	a.Begun, a.At, a.Before = true, m.now, before
	a.WaitReason, a.SettleUntil = waitDownload, time.Time{}
	m.enter(PhaseTransferring)
	if c.Delivery == DeliveryPush {
		m.log(EventPush, "attempt %d: %s", m.Attempt, c.why)
		m.do(Action{Kind: ActionPush})
		return
	}
	m.log(EventWriteURI, "attempt %d: %s", m.Attempt, c.why)
	m.do(Action{
		Kind: ActionWriteURI, Protocol: c.Protocol,
		PathOnly: m.Plan.Profile.PathOnly, Fresh: m.Memory.History.Fresh,
	})
}

// judgeTransfer decides for a device that was sent the package or its URI.
func (m *machine) judgeTransfer(r Reading, result Result) {
	a := &m.Memory.Attempt
	switch r.State.Value {
	case Downloading:
		a.Started = true
		switch {
		case m.declined():
			m.settle("takes a package, but refused ours", m.Plan.Limits.Settle, func() { m.refused() })
		case m.Delivery == DeliveryPush && !a.Answer.OK():
			// The last answer may also be lost while the device verifies the package.
			m.settle("waits for the rest of a push that broke off", m.Plan.Limits.Settle, func() {
				m.retry("the device waits for the rest of a push that broke off")
			})
		default:
			m.pollFor(waitDownloading)
		}
	case Downloaded:
		m.judgeDownloaded(r, result)
	case Updating:
		m.line(EventAutoUpgrade, "the device installs without Execute")
		m.Memory.History.AutoUpgraded = true
		m.installing(result)
		m.judgeInstallation(r, result)
	default:
		m.judgeIdle(r, result)
	}
}

// judgeIdle decides for a device that shows no package: it failed, it has not begun, or it has
// installed the package without Execute.
func (m *machine) judgeIdle(r Reading, result Result) {
	a := &m.Memory.Attempt
	old := m.old(result)
	switch {
	case m.runsTarget() && r.Version.OK():
		m.end(OutcomeSucceeded, ReasonVersion, "the device runs the target version, without Execute")
	case a.ReadyOnHold && saysOnlyGone(result):
		m.lostOnHold()
	case result == ResultDefault || old && result == ResultSuccess:
		m.showsNothing()
	case old && m.now.Before(a.Answered.Add(stale)):
		m.pollFor(waitBegin, a.Answered.Add(stale))
	case old && a.Answer == CodeNone:
		// The device may not have received the package or URI: the Result is from before.
		m.showsNothing()
	case result == ResultSuccess:
		m.line(EventAutoUpgrade, "the device reports success without Execute")
		m.Memory.History.AutoUpgraded = true
		m.installing(result)
		m.judgeInstallation(r, result)
	default:
		m.failure(result)
	}
}

// saysOnlyGone reports whether a Result says no more than that the package is gone.
func saysOnlyGone(result Result) bool {
	switch result {
	case ResultNoStorage, ResultIntegrityFailed, ResultUnsupFirmware, ResultInvalidURI, ResultUnsupProtocol, ResultSuccess:
		return false
	default:
		return true
	}
}

// lostOnHold handles a device that lost the package during a hold. The next transfer begins after
// the release, and does not count as a failed attempt.
func (m *machine) lostOnHold() {
	if m.held() {
		m.readWhileHeld(waitHold + "; the device has lost the package")
		return
	}
	m.again(0, "the device lost the package while the update was held", "; this is not counted against the attempts")
}

// showsNothing handles a device that shows neither a package nor a new Result.
func (m *machine) showsNothing() {
	a := &m.Memory.Attempt
	if m.declined() {
		m.refused()
		return
	}
	wait, why := unseen*m.Plan.Limits.Settle, "accepted the package but shows no download"
	switch unknown := !a.Answer.OK(); {
	case a.Lost && a.Started:
		wait, why = m.Plan.Limits.Settle, "registered again and lost its download"
	case a.Lost:
		wait, why = m.Plan.Limits.Settle, "registered again and shows no download"
	case a.Started && m.Delivery == DeliveryPull:
		wait, why = m.Plan.Limits.Settle, "no longer shows its download"
	case unknown && m.Delivery == DeliveryPush:
		wait, why = m.Plan.Limits.Settle, "shows nothing of a push that broke off"
	case unknown && m.Plan.Profile.WriteGrace > 0:
		wait, why = m.Plan.Profile.WriteGrace, "seems not to have received the Package URI"
	case unknown && a.Interrupted:
		wait, why = stale, "seems not to have received the Package URI"
	case unknown:
		wait, why = writeGrace, "seems not to have received the Package URI"
	}
	m.settle(why, wait, func() { m.retry("the device " + why) })
}

// declined reports whether the device refused the package or its URI; 5.03 is a refusal too. A
// device that requests the package by its secret URI has accepted the URI: the first answer was
// lost, and it refused only the repeated Write.
func (m *machine) declined() bool {
	a := m.Memory.Attempt
	if a.Requested && m.Delivery == DeliveryPull && !m.Plan.Profile.PathOnly {
		return false
	}
	return a.Answer != CodeNone && !a.Answer.OK()
}
