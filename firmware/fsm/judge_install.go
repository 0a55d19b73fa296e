package fsm

import "time"

// runsTarget reports whether the version last read is the target and was not
// there before.
func (m *machine) runsTarget() bool {
	return m.Version == m.Plan.Target && m.OldVersion != m.Plan.Target
}

// hasPackage corrects what was counted by what is proven: the device has all
// bytes, also if a restart of the server lost count of them.
func (m *machine) hasPackage() { m.Bytes = max(m.Bytes, m.Plan.Size) }

// judgeDownloaded looks at a device that holds our package.
func (m *machine) judgeDownloaded(r Reading, result Result) {
	mem := &m.Memory
	m.hasPackage()
	if !mem.Executed {
		m.enter(PhaseTransferred)
	}
	switch {
	case result == ResultDeferred:
		m.deferred(r)
	case !mem.Executed:
		m.execute(result, "the device holds the package")
	case result == mem.ExecBefore && mem.ExecCode.OK() && m.now.Before(mem.ExecutedAt.Add(executeGrace)) && !mem.Proven && !mem.Returned:
		// Accepted, and not begun yet.
		m.pollFor("device to start the update", mem.ExecutedAt.Add(executeGrace))
	case result == mem.ExecBefore && mem.ExecCode == CodeNone && !mem.Proven:
		// Execute may not have arrived: the Result is from before.
		m.notExecuted(result)
	case result == ResultUpdateFailed:
		if mem.ExecFailed {
			m.end(OutcomeFailed, result, ReasonDeviceResult, "the device reported result update_failed again")
			return
		}
		mem.ExecFailed = true
		m.execute(result, "result update_failed; the package is still there, once more")
	case result != ResultDefault:
		m.failure(result)
	default:
		m.notExecuted(result)
	}
}

// notExecuted deals with a device that was told to update and shows that it has
// not. Having read so, Execute can be repeated.
func (m *machine) notExecuted(result Result) {
	mem := &m.Memory
	mem.Executes++
	if mem.Executes >= m.Plan.Attempts {
		m.end(OutcomeFailed, ResultUpdateFailed, ReasonAttempts, "the device does not start the update")
		return
	}
	if mem.ExecCode == CodeNone || mem.Returned {
		m.execute(result, "the device has not executed")
		return
	}
	pause := m.retryPause(mem.Executes - 1)
	m.log("retry", "the device has not executed (%s); again in %s", mem.ExecCode, pause)
	mem.Executed = false
	m.enter(PhaseTransferred)
	m.pause(pause, "next Execute")
}

// deferred waits out the period for which the device has put the update off. It
// may begin by itself meanwhile.
func (m *machine) deferred(r Reading) {
	mem := &m.Memory
	mem.Proven, mem.Returned = false, false
	m.enter(PhaseTransferred)
	if mem.DeferUntil.IsZero() {
		if r.MaxDefer.Code == CodeNone && !mem.AskDefer {
			mem.AskDefer = true
			m.readNow()
			return
		}
		period := m.Plan.Limits.Defer
		if r.MaxDefer.OK() && r.MaxDefer.Value > 0 {
			period = min(r.MaxDefer.Value, m.Plan.Deadline)
		}
		mem.AskDefer = false
		mem.DeferUntil = m.now.Add(period)
		m.log("deferred", "the device puts the update off for up to %s", period)
	}
	if m.now.Before(mem.DeferUntil) {
		m.restartClock(mem.DeferUntil)
		m.pollFor("device has deferred the update", mem.DeferUntil)
		return
	}
	mem.DeferUntil = time.Time{}
	m.execute(ResultDeferred, "the defer period is over")
}

// execute sends Execute; a read has just shown State Downloaded.
func (m *machine) execute(before Result, why string) {
	if m.overdue() {
		return
	}
	if m.now.Before(m.Memory.RetryAt) {
		m.readBy(m.Memory.RetryAt)
		return
	}
	m.log("execute", "%s", why)
	m.executed(before)
	m.do(Action{Kind: ActionExecute})
}

// executed notes that the device updates, or may do so.
func (m *machine) executed(before Result) {
	mem := &m.Memory
	mem.Executed, mem.ExecutedAt, mem.ExecCode, mem.ExecBefore = true, m.now, CodeNone, before
	mem.Returned, mem.Proven, mem.SettleUntil = false, false, time.Time{}
	mem.RetryAt, mem.Why, mem.Polls = time.Time{}, "device to start the update", 0
	m.enter(PhaseExecuting)
	m.restartClock(m.now)
}

// judgeExecuted looks at a device that was told to update.
func (m *machine) judgeExecuted(r Reading, result Result) {
	mem := &m.Memory
	if r.Version.OK() && m.runsTarget() && r.State.Value != Updating {
		m.end(OutcomeSucceeded, ResultSuccess, ReasonVersion, "the device runs the target version")
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
		mem.Proven = true
		switch {
		case r.Version.OK() && m.runsTarget():
			// On trial: it can still be rolled back.
			m.enter(PhaseVerifying)
		default:
			m.begun()
		}
		m.pollFor("device to finish the update")
	case Downloading:
		m.pollFor("device to finish another transfer")
	default:
		m.verdict(r, result)
	}
}

// begun notes that Execute has shown its first effect.
func (m *machine) begun() {
	m.Memory.DeferUntil = time.Time{}
	if m.Phase == PhaseExecuting || m.Phase == PhaseTransferred {
		m.enter(PhaseRestarting)
	}
}

// verdict looks at a device that is idle again after Execute.
func (m *machine) verdict(r Reading, result Result) {
	mem := &m.Memory
	mem.DeferUntil = time.Time{}
	version := r.Version.OK()
	switch {
	case result == ResultSuccess && m.Plan.Verify == VerifyResult:
		m.end(OutcomeSucceeded, result, ReasonResult, "the device reported success")
	case result == ResultSuccess && !version:
		m.end(OutcomeSucceeded, result, ReasonResult,
			"the device reported success; its version could not be read ("+r.Version.Code.String()+")")
	case result == ResultSuccess && r.Version.Value == m.Plan.Target:
		m.end(OutcomeSucceeded, result, ReasonVersion, "the device reported success and runs the target version")
	case result == ResultSuccess:
		m.verify("reports success, but runs version "+versionText(r), func() {
			m.end(OutcomeFailed, result, ReasonVersionMismatch,
				"the device reported success, but runs version "+versionText(r))
		})
	case result == ResultUpdateFailed && mem.Returned && version && r.Version.Value == m.OldVersion:
		m.end(OutcomeRolledBack, result, ReasonOldVersion, "the device came back with its old version and result update_failed")
	case result != ResultDefault:
		m.failure(result)
	default:
		m.silent(r)
	}
}

// silent looks at a device that is idle and gives no Result.
func (m *machine) silent(r Reading) {
	mem := &m.Memory
	switch {
	case !mem.Returned && !mem.Proven && !mem.ExecCode.OK() && mem.ExecCode != CodeNone:
		m.retry("Execute was refused and the package is gone", ResultUpdateFailed)
	case !mem.Returned:
		m.begun()
		m.pollFor("device to restart")
	case !r.Version.OK() || m.Plan.Verify == VerifyResult && r.Version.Value != m.Plan.Target:
		m.pollFor("device to report a result")
	case r.Version.Value == m.Plan.Target:
		// The same version before and after: only time can tell it from a
		// roll back, and there is nothing to roll back to.
		m.verify("runs the target version as before", func() {
			m.end(OutcomeSucceeded, ResultSuccess, ReasonVersion, "the device runs the target version")
		})
	case r.Version.Value == m.OldVersion:
		m.verify("came back with its old version", func() {
			m.end(OutcomeRolledBack, ResultUpdateFailed, ReasonOldVersion, "the device came back with its old version")
		})
	default:
		m.verify("came back with version "+versionText(r), func() {
			m.end(OutcomeFailed, ResultUpdateFailed, ReasonVersionMismatch,
				"the device came back with version "+versionText(r))
		})
	}
}

// verify settles in PhaseVerifying.
func (m *machine) verify(picture string, verdict func()) {
	m.enter(PhaseVerifying)
	m.settle(picture, m.Plan.Limits.Settle, verdict)
}
