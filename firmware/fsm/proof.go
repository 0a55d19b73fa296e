package fsm

// proof returns what proves that the package on the device is this update's, or "" if nothing does.
//
// Proof is that the server wrote it into an idle device, or pushed it from the first block to the
// last into a device that hung in a transfer, and the device did not refuse it; that a client which
// cannot be reset downloaded it to its last byte after it had the URI; or that the stored facts
// name it. The server cannot see what another server of the device does.
func (m *machine) proof(r Reading) string {
	a := m.Memory.Attempt
	pushed := m.Delivery == DeliveryPush && a.Answer.OK()
	switch {
	case a.ObjectChanged:
		return ""
	case a.Adopted && r.Holds:
		return "the device holds this package already"
	case a.Adopted || m.declined():
		return ""
	case a.Idle, a.Stuck && pushed:
		return "the device holds the package"
	case m.Plan.Profile.Reset == ResetNone && a.Served:
		return "the device fetched the package to its last byte"
	default:
		return ""
	}
}

// adopt uses a package that, as the stored facts prove, is on the device already.
func (m *machine) adopt(r Reading, result Result) {
	m.line(EventAdopted, "the device holds this package already, as its stored facts prove")
	m.Attempt = max(m.Attempt, 1)
	a := &m.Memory.Attempt
	a.Begun, a.Adopted, a.At = true, true, m.now
	m.judgeDownloaded(r, result)
}

// unproven handles a device that shows a package which nothing proves to be this one.
func (m *machine) unproven() {
	a := &m.Memory.Attempt
	const foreign = "the device holds a package, and nothing proves that it is this one"
	switch {
	case m.Plan.Profile.Reset != ResetNone:
		m.retry(foreign)
	case m.declined() || m.Memory.Installation.Begun || a.ObjectChanged:
		m.end(OutcomeFailed, ReasonCannotProve, foreign+"; it cannot be reset")
	default:
		m.settle("shows a package that it may have had before", unseen*m.Plan.Limits.Settle, func() {
			if m.Bytes > 0 || !a.Answer.OK() || a.Lost || a.Interrupted {
				m.retry("the device has not fetched the package to its end")
				return
			}
			m.end(OutcomeFailed, ReasonCannotProve, foreign+": nothing shows that it has fetched the package, and it cannot be reset")
		})
	}
}
