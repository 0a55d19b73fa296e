package fsm

import "time"

// runsTarget reports whether the version last read is the target, and the device did not run it
// before.
func (m *machine) runsTarget() bool {
	return m.Memory.Reading.Version.is(m.Plan.Target) && !m.sameVersion()
}

// runsOld reports whether the version last read is the one from before the update.
func (m *machine) runsOld() bool {
	r := m.Memory.Reading
	return r.Version.says() && r.Version == r.Old
}

// sameVersion reports whether the device ran the target version before. Then its version proves
// nothing.
func (m *machine) sameVersion() bool { return m.Memory.Reading.Old.is(m.Plan.Target) }

// hasPackage corrects the count of bytes once the device provably has all of them: a restart of the
// server may have lost the count.
func (m *machine) hasPackage() { m.Bytes = max(m.Bytes, m.Plan.Size) }

// judgeDownloaded decides for a device that holds a package.
func (m *machine) judgeDownloaded(r Reading, result Result) {
	in, a := &m.Memory.Installation, &m.Memory.Attempt
	if !in.Begun {
		if m.proof(r) == "" {
			m.unproven()
			return
		}
		m.hasPackage()
		m.Memory.History.InRow = 0
		m.enter(PhaseTransferred)
		m.holdsPackage = true
	}
	switch {
	case result == ResultDeferred:
		m.deferred(r)
	case !in.Begun:
		m.execute(r, result, m.proof(r))
	case result == in.Before && in.Code.OK() && m.now.Before(in.At.Add(executeGrace)) && !in.Seen && (!in.Returned || a.ExecutedAgain):
		// The device accepted Execute and has not begun yet. A registration that the server handled
		// after the second Execute may belong to the restart before it.
		m.pollFor(waitStart, in.At.Add(executeGrace))
	case result == in.Before && in.Code == CodeNone && !in.Seen:
		// Execute may not have arrived, since the Result is from before.
		m.notExecuted(r, result)
	case result == ResultUpdateFailed:
		if a.ExecutedAgain {
			m.updateFailed(r)
			return
		}
		returned := in.Returned
		m.execute(r, result, "the device reported result update_failed and still has the package; the server executes it once more")
		if m.act.Kind == ActionExecute { // no hold keeps it back
			a.ExecutedAgain, a.Returned = true, returned
		}
	case result != ResultDefault:
		m.failure(result)
	default:
		m.notExecuted(r, result)
	}
}

// notExecuted handles a device that was sent Execute and has not started. After this reading
// Execute can be repeated.
func (m *machine) notExecuted(r Reading, result Result) {
	h, in := &m.Memory.History, &m.Memory.Installation
	if !m.Memory.Attempt.RetryAt.IsZero() {
		m.execute(r, result, "the device has not started the update")
		return
	}
	h.ExecutesFailed++
	if h.ExecutesFailed >= m.Plan.Attempts {
		m.end(OutcomeFailed, ReasonAttempts, "the device does not start the update")
		return
	}
	if in.Code == CodeNone || in.Returned {
		m.execute(r, result, "the device has not started the update")
		return
	}
	pause := m.retryPause(h.ExecutesFailed - 1)
	m.log(EventRetry, "the device answered %s to Execute and has not started the update; next try in %s", in.Code, pause)
	m.enter(PhaseTransferred)
	m.pause(pause, waitExecute) // the device may still start
}

// deferred waits until the end of the time for which the device defers the update. The device may
// begin by itself meanwhile. A period does not begin a second time, even for an update on hold. A
// device clears its Result when it accepts Execute, so the Result from before counts as the
// default.
func (m *machine) deferred(r Reading) {
	in, rd := &m.Memory.Installation, &m.Memory.Reading
	in.Seen, in.Returned = false, false
	m.enter(PhaseTransferred)
	if in.DeferUntil.IsZero() {
		if r.MaxDefer.Code == CodeNone && !rd.ReadDefer {
			rd.ReadDefer = true
			m.readNow()
			return
		}
		period := m.Plan.Limits.Defer
		if r.MaxDefer.OK() && r.MaxDefer.Value > 0 {
			period = min(r.MaxDefer.Value, m.Plan.Deadline)
		}
		rd.ReadDefer = false
		in.DeferUntil, m.hard = m.now.Add(period), true // the period must not begin again
		m.log(EventDeferred, "the device defers the update for up to %s", period)
	}
	if m.now.Before(in.DeferUntil) {
		m.restartClock(in.DeferUntil)
		m.pollFor(waitDeferred, in.DeferUntil)
		return
	}
	m.execute(r, ResultDefault, "the defer period is over")
}

// execute sends Execute, unless a hold keeps it back. A read has just shown State Downloaded; the
// package must provably be this one.
func (m *machine) execute(r Reading, before Result, why string) {
	if m.overdue() {
		return
	}
	if m.proof(r) == "" {
		m.unproven()
		return
	}
	if m.held() {
		m.waitForHolds()
		return
	}
	if at := m.Memory.Attempt.RetryAt; m.now.Before(at) {
		m.readBy(at)
		return
	}
	m.line(EventExecute, why)
	m.installing(before)
	m.Memory.Installation.Sent = true
	m.do(Action{Kind: ActionExecute})
}

// installing records that the device installs, or may do so.
func (m *machine) installing(before Result) {
	m.hard = true
	a := &m.Memory.Attempt
	a.Returned = a.Returned || a.ExecutedAgain && m.Memory.Installation.Returned
	m.Memory.Installation = installation{Begun: true, At: m.now, Before: before}
	a.RetryAt, a.WaitReason, a.SettleUntil = time.Time{}, waitStart, time.Time{}
	m.Memory.Reading.Polls = 0
	m.enter(PhaseExecuting)
	m.restartClock(m.now)
}

// judgeInstallation decides for a device that was sent Execute, or that installs without it.
func (m *machine) judgeInstallation(r Reading, result Result) {
	in := &m.Memory.Installation
	in.Failed = false
	if r.State.Value != Downloaded {
		m.Memory.Attempt.RetryAt = time.Time{} // of the next Execute
	}
	if r.Version.OK() && m.runsTarget() && r.State.Value != Updating {
		m.end(OutcomeSucceeded, ReasonVersion, "the device runs the target version")
		return
	}
	switch r.State.Value {
	case Downloaded:
		if result == ResultSuccess {
			m.verdict(r, result)
			return
		}
		m.judgeDownloaded(r, result)
	case Updating:
		in.Seen = true
		if r.Version.OK() && m.runsTarget() {
			// On trial: it can still be rolled back.
			m.enter(PhaseVerifying)
		} else {
			m.executeTookEffect()
		}
		m.pollFor(waitInstall)
	case Downloading:
		m.pollFor(waitOtherTransfer)
	default:
		m.verdict(r, result)
	}
}

// executeTookEffect records the first effect of Execute.
func (m *machine) executeTookEffect() {
	m.Memory.Installation.DeferUntil = time.Time{}
	if m.Phase == PhaseExecuting || m.Phase == PhaseTransferred {
		m.enter(PhaseRestarting)
	}
}

// verdict decides for a device that is idle after Execute.
func (m *machine) verdict(r Reading, result Result) {
	in, v := &m.Memory.Installation, m.Memory.Reading.Version
	in.DeferUntil = time.Time{}
	said := r.Version.OK() && v.says()
	switch {
	case result == ResultSuccess && m.Plan.Verify == VerifyResult:
		m.end(OutcomeSucceeded, ReasonResult, "the device reported success")
	case result == ResultSuccess && !said && result == in.Before && m.Memory.Reading.Old.says():
		m.showsNoResult(said) // the Result may be from before: see mistakable
	case result == ResultSuccess && !said:
		m.end(OutcomeSucceeded, ReasonResult, "the device reported success; 3/0/3 says nothing ("+r.Version.Code.String()+")")
	case result == ResultSuccess && v.is(m.Plan.Target) && in.Sent:
		m.end(OutcomeSucceeded, ReasonSameVersion, "the device reported success after Execute, and runs the target version as before")
	case result == ResultSuccess && v.is(m.Plan.Target):
		m.verify("reports success without Execute, and runs the target version as before", func() {
			m.end(OutcomeFailed, ReasonCannotProve, "the device ran the target version before, and nothing proves that it installed this package")
		})
	case result == ResultSuccess:
		m.verify("reports success, but runs version "+v.String(), func() {
			m.end(OutcomeFailed, ReasonVersionMismatch, "the device reported success, but runs version "+v.String())
		})
	case result == ResultUpdateFailed:
		m.updateFailed(r)
	case result != ResultDefault:
		m.failure(result)
	default:
		m.showsNoResult(said)
	}
}

// updateFailed decides for a device that reports Result 8 for the last time. A device that was
// rolled back may answer a read before the server has handled its new registration. So the outcome
// waits for a registration, for the settle time, unless the version shows that it would change
// nothing.
func (m *machine) updateFailed(r Reading) {
	in, v := &m.Memory.Installation, m.Memory.Reading.Version
	answered := r.Version.Code != CodeNone && r.Version.Code != codeServiceUnavailable
	in.Failed = r.Version.OK() && v.says() && m.runsOld()
	if in.Failed && m.returned() || answered && !in.Failed {
		m.endFailed("")
		return
	}
	picture := "reports result update_failed"
	if !m.returned() {
		picture += " and may restart"
	}
	m.verify(picture, func() { m.endFailed("") })
}

// returned reports whether the device registered again since it was first sent Execute.
func (m *machine) returned() bool { return m.Memory.Installation.Returned || m.Memory.Attempt.Returned }

// endFailed ends the update of a device that reports Result 8.
func (m *machine) endFailed(why string) {
	if m.Memory.Installation.Failed && m.returned() {
		m.end(OutcomeRolledBack, ReasonOldVersion, why+"the device came back with its old version and result update_failed")
		return
	}
	if m.Memory.Attempt.ExecutedAgain {
		why += "the device reported result update_failed again"
	} else {
		why += "the device reported result update_failed"
	}
	m.end(OutcomeFailed, ReasonDeviceResult, why)
}

// showsNoResult decides for a device that is idle and shows no Result.
func (m *machine) showsNoResult(said bool) {
	in, v := &m.Memory.Installation, m.Memory.Reading.Version
	switch {
	case !in.Returned && !in.Seen && !in.Code.OK() && in.Code != CodeNone:
		m.retry("the device refused Execute and has lost the package")
	case !in.Returned:
		m.executeTookEffect()
		m.pollFor(waitReboot)
	case !said || m.Plan.Verify == VerifyResult && !v.is(m.Plan.Target):
		m.pollFor(waitResult)
	case v.is(m.Plan.Target):
		m.sameVersionAgain()
	case m.runsOld():
		m.verify("came back with its old version", func() {
			m.end(OutcomeRolledBack, ReasonOldVersion, "the device came back with its old version")
		})
	default:
		m.verify("came back with version "+v.String(), func() {
			m.end(OutcomeFailed, ReasonVersionMismatch, "the device came back with version "+v.String())
		})
	}
}

// sameVersionAgain decides for a device that is back with the target version, which it ran before.
// The proof is that it accepted Execute, restarted, and shows no change any more.
func (m *machine) sameVersionAgain() {
	in := m.Memory.Installation
	m.verify("came back with the target version, as before", func() {
		if in.Sent && in.Code.OK() {
			m.end(OutcomeSucceeded, ReasonSameVersion,
				"the device accepted Execute, registered again, and stays idle with the target version, as before")
			return
		}
		m.retry("the device registered again with the target version as before, and nothing proves that it installed")
	})
}

// verify waits until the device's picture is stable. A device that has not registered again may
// still restart.
func (m *machine) verify(picture string, verdict func()) {
	if m.Memory.Installation.Returned {
		m.enter(PhaseVerifying)
	} else {
		m.executeTookEffect()
	}
	m.settle(picture, m.Plan.Limits.Settle, verdict)
}
