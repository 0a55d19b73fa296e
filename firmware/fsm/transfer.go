package fsm

import "time"

// actionProgress records how the action under way proceeds.
func (m *machine) actionProgress(o *Observation) {
	d := &m.Memory.Doing
	if d.Kind == ActionNone || o.Action != d.ID {
		return
	}
	switch o.Kind {
	case ObserveQueued:
		d.Queued = true
	case ObserveSent:
		d.Queued = false
	case ObserveSilent:
		m.Memory.Reading.Silent = true
		switch d.Stall {
		case stallNone:
			d.Stall, d.Since = stallSilent, m.now
		case stallBusy: // the journal already says so
			d.Stall = stallSilent
		}
	case ObserveBusy:
		m.Memory.Reading.Silent = false
		logged := d.Logged
		d.Stall, d.Logged = stallBusy, true
		if !logged {
			d.Since = m.now
			m.log(EventDeviceBusy, "the device is busy (%s); the server continues %s later", detailOr(o, "5.03"), d.Kind.words())
		}
	case ObserveBlockRefused:
		if a := &m.Memory.Attempt; d.Kind == ActionPush && !a.RefusedRepeat {
			a.RefusedRepeat, m.Memory.History.RefusesRepeats = true, true
			m.line(EventBlockRefused, refusedAgain)
		}
	case ObserveHeard:
		m.movesOn()
	}
}

// refusedAgain describes a push to a client without a cache of duplicates.
const refusedAgain = "the acknowledgement of a block was lost, and the device refused the block when the server sent it again (5.03), " +
	"as does a client that has it and keeps no cache of duplicates"

// movesOn records that the action under way makes progress.
func (m *machine) movesOn() {
	d := &m.Memory.Doing
	if d.Stall != stallNone && d.Logged {
		m.log(EventDeviceAnswers, "the device answers again; the server continues %s", d.Kind.words())
	}
	m.Memory.Reading.Silent = false
	d.Stall, d.Since, d.Logged, d.Queued = stallNone, time.Time{}, false, false
}

// logStall reports in the journal, once, that the device does not acknowledge a block.
func (m *machine) logStall() {
	d := &m.Memory.Doing
	if d.Kind == ActionPush && d.Stall == stallSilent && !d.Logged && !m.now.Before(d.Since.Add(stallAfter)) {
		d.Logged = true
		m.log(EventDeviceSilent, "the device has not answered for %s; the server repeats the block", m.now.Sub(d.Since).Round(time.Second))
	}
}

// progress counts bytes that went to the device. The first bytes of a push are an acknowledged
// block: the device is Downloading.
func (m *machine) progress(bytes int64) {
	a := &m.Memory.Attempt
	if !a.Begun || m.Phase != PhaseTransferring {
		return
	}
	if m.Memory.Doing.Kind == ActionPush {
		m.movesOn()
		if a.RefusedRepeat { // the device was only busy
			a.RefusedRepeat, m.Memory.History.RefusesRepeats = false, false
		}
	}
	m.Memory.Reading.Silent = false
	if size := m.Plan.Size; size > 0 && bytes >= size {
		if m.Delivery == DeliveryPull && !a.Served {
			a.Served = true
			m.hard = m.hard || m.Plan.Profile.Reset == ResetNone // a proof; see proof
		}
		if m.Bytes < size {
			m.hint()
		}
	}
	m.Bytes = bytes
	a.SettleUntil = time.Time{}
	m.restartClock(m.now)
	if bytes <= 0 {
		return
	}
	a.WaitReason = waitDownloading // of a pull; waiting says what a push waits for
	if a.Started {
		return
	}
	a.Started = true
	m.line(EventTransferStarted, "the device receives the package")
	if m.State == Idle {
		m.State = Downloading
	}
}

// delivery records what the server that serves packages saw.
func (m *machine) delivery(o *Observation) {
	a := &m.Memory.Attempt
	if o.Kind == ObserveServerFault {
		m.fault(o)
		return
	}
	if !a.Begun || a.Adopted || m.Memory.Installation.Begun {
		return
	}
	switch o.Kind {
	case ObserveDownloadRequested:
		if !a.Requested {
			a.Requested = true
			m.line(EventDownloadRequested, detailOr(o, "the device requested the package"))
		}
	case ObservePackageFetched:
		if !a.Served {
			a.Served, m.hard = true, true
			m.line(EventPackageFetched, "the program reports that the device fetched the package")
		}
		m.hasPackage()
		m.hint()
	case ObserveConnectionFailed:
		if why := detail(o); m.Phase == PhaseTransferring && why != a.Fault && a.FaultLines < maxTroubles {
			a.Fault = why
			a.FaultLines++
			m.line(EventConnectionFailed, why)
		}
	}
}

// maxTroubles limits the lines about failed connections in one attempt: any host at the device's
// address can make connections fail.
const maxTroubles = 4

// fault ends an update whose package the server cannot serve.
func (m *machine) fault(o *Observation) {
	if o.Fault == FaultImage && !m.Memory.Installation.Begun {
		m.cancelOnDevice()
		m.MayStill = ""
		m.end(OutcomeFailed, ReasonImage, "the server cannot hand out the image: "+detailOr(o, "it is damaged"))
	}
}

// objectChanged records that another request changes the object. What the attempt has proven no
// longer counts.
func (m *machine) objectChanged(o *Observation) {
	if a := &m.Memory.Attempt; a.Begun && !a.ObjectChanged {
		a.ObjectChanged, m.hard = true, true
		m.log(EventObjectChanged, "another request of this server changes the Firmware Update object: %s", detailOr(o, "unknown"))
	}
	m.hint()
}
