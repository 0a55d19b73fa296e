package fsm

import "slices"

// A way is how a package can get to a device.
type way struct {
	Delivery DeliveryMode `record:"1"`
	Protocol Protocol     `record:"2"`
}

func (w way) String() string {
	if w.Delivery == DeliveryPush {
		return "push"
	}
	return w.Protocol.String()
}

// take records the way of an attempt that begins.
func (h *history) take(w way) {
	if w != h.Way {
		h.Way, h.InRow = w, 0
	}
	h.InRow++
	h.Change = false
}

// choice is a way to deliver the package, or why there is none.
type choice struct {
	way
	why    string
	reason Reason // why there is none
	ok     bool
}

// noWay ends an update whose package cannot get to the device.
func (m *machine) noWay(c choice) { m.end(OutcomeFailed, c.reason, c.why) }

// choose returns the way of the next attempt. After an attempt that moved bytes it first returns
// the same way. After one that moved none, or two that did not reach their end, it returns the next
// allowed way.
func (m *machine) choose() choice {
	ways, none := m.ways()
	if len(ways) == 0 {
		return none
	}
	h := m.Memory.History
	at := slices.IndexFunc(ways, func(c choice) bool { return c.way == h.Way })
	switch {
	case at < 0:
		c := ways[0]
		if h.RefusesRepeats && h.Way.Delivery == DeliveryPush {
			c.why += "; the device refuses blocks of a push that are sent again, as it must be when an acknowledgement is lost"
		}
		return c
	case !h.Change || len(ways) == 1:
		return ways[at]
	}
	c := ways[(at+1)%len(ways)]
	if h.InRow >= 2 {
		c.why += "; the attempts by " + h.Way.String() + " did not reach their end"
	} else {
		c.why += "; the attempt by " + h.Way.String() + " moved no byte"
	}
	return c
}

// ways lists the ways that request, profile, device and server allow, the preferred one first, or
// says why there is none.
func (m *machine) ways() (ways []choice, none choice) {
	push, noPush := m.mayPush()
	pulls, noPull := m.mayPull()
	ways = pulls
	if push.ok && (len(pulls) == 0 || !m.Memory.History.RefusesRepeats) {
		if m.Plan.Profile.Delivery == DeliveryPull {
			ways = append(ways, push)
		} else {
			ways = append([]choice{push}, ways...)
		}
	}
	if m.wantsPush() || noPull.why == "" {
		return ways, noPush
	}
	return ways, noPull
}

func (m *machine) wantsPush() bool { return m.Plan.Delivery == DeliveryPush }

func (m *machine) wantsPull() bool {
	return m.Plan.Delivery == DeliveryPull || m.Plan.Protocol != ProtocolAuto || m.Plan.Profile.PathOnly
}

// mayPush returns the push, or why it is not possible.
func (m *machine) mayPush() (push, none choice) {
	r, h := m.Memory.Reading, m.Memory.History
	no := func(reason Reason, why string) (choice, choice) { return choice{}, choice{reason: reason, why: why} }
	switch {
	case m.wantsPull() && !m.wantsPush():
		return choice{}, choice{}
	case r.HasMethod && !r.Method.allows(DeliveryPush):
		return no(ReasonNoDelivery, "push was asked for, but the device only pulls (5/0/9)")
	case h.TooLarge:
		return no(ReasonRefused, "the package is larger than the device takes by push")
	case m.wantsPush():
		return choice{way: way{Delivery: DeliveryPush}, why: "push, as asked for", ok: true}, choice{}
	case !r.HasMethod || h.RefusedPush:
		return no(ReasonNoDelivery, "the device accepts neither push nor pull")
	}
	return choice{way: way{Delivery: DeliveryPush}, why: "push, as 5/0/9 allows", ok: true}, choice{}
}

// mayPull returns the pulls, one for each protocol, or why none is possible.
func (m *machine) mayPull() (pulls []choice, none choice) {
	r := m.Memory.Reading
	no := func(reason Reason, why string) ([]choice, choice) { return nil, choice{reason: reason, why: why} }
	switch {
	case m.wantsPush():
		return nil, choice{}
	case r.HasMethod && !r.Method.allows(DeliveryPull) && m.wantsPull():
		return no(ReasonNoDelivery, "pull was asked for, but the device only takes pushes (5/0/9)")
	case r.HasMethod && !r.Method.allows(DeliveryPull), m.Memory.History.RefusedPull:
		return no(ReasonNoDelivery, "the device accepts neither push nor pull")
	case m.Plan.Profile.PathOnly:
		return m.byPath()
	}
	listed, source := r.Listed, "5/0/8"
	if len(listed) == 0 {
		listed, source = m.Plan.Profile.Protocols, "the profile"
	}
	if len(listed) == 0 {
		listed, source = []Protocol{ProtocolCoAP}, "5/0/8, which is absent"
	}
	if want := m.Plan.Protocol; want != ProtocolAuto {
		switch {
		case m.tried(want):
			return no(ReasonNoDelivery, "the device does not support "+want.String())
		case len(r.Listed) > 0 && !slices.Contains(listed, want):
			return no(ReasonNoDelivery, want.String()+" was asked for, but is not in 5/0/8")
		case !slices.Contains(r.Offers, want):
			return no(ReasonNotServed, want.String()+" was asked for, but packages are not served by it to this device")
		}
		return []choice{{way{DeliveryPull, want}, "pull by " + want.String() + ", as asked for", "", true}}, choice{}
	}
	for _, p := range r.Offers {
		if slices.Contains(listed, p) && !m.tried(p) {
			pulls = append(pulls, choice{way{DeliveryPull, p}, "pull by " + p.String() + ", in " + source, "", true})
		}
	}
	switch {
	case len(pulls) > 0:
		return pulls, choice{}
	case len(r.Offers) == 0:
		return no(ReasonNotServed, "packages are served to this device by no protocol: the server has no base URL for it, and does not serve them by CoAP")
	}
	return no(ReasonNoDelivery, "no protocol of "+source+" is left that is served here")
}

// byPath returns the protocol of a device that completes a path by itself; the device chooses the
// scheme.
func (m *machine) byPath() (pulls []choice, none choice) {
	p := ProtocolHTTP
	if m.Plan.Protocol != ProtocolAuto {
		p = m.Plan.Protocol
	} else if len(m.Plan.Profile.Protocols) > 0 {
		p = m.Plan.Profile.Protocols[0]
	}
	if m.tried(p) {
		return nil, choice{reason: ReasonNoDelivery, why: "the device does not support " + p.String()}
	}
	return []choice{{way{DeliveryPull, p}, "pull by a path, as the profile has it", "", true}}, choice{}
}

func (m *machine) tried(p Protocol) bool { return slices.Contains(m.Memory.History.Unsupported, p) }

// refused handles a device that refused the package without a Result.
func (m *machine) refused() {
	a, h := &m.Memory.Attempt, &m.Memory.History
	if h.TooLarge && m.Delivery == DeliveryPush {
		if c := m.choose(); c.ok {
			m.again(0, "the package is too large to be pushed", "; "+c.why)
			return
		}
		m.end(OutcomeFailed, ReasonRefused, "the package is larger than the device takes by push, and there is no other way")
		return
	}
	if m.Plan.Delivery == DeliveryAuto && m.Plan.Protocol == ProtocolAuto && !a.Started && unsupported(a.Answer) {
		was := m.Delivery
		if was == DeliveryPush {
			h.RefusedPush = true
		} else {
			h.RefusedPull = true
		}
		if c := m.choose(); c.ok && c.Delivery != was {
			m.again(0, m.refusal(), "; "+c.why)
			return
		}
		h.RefusedPush, h.RefusedPull = false, false
	}
	m.retry(m.refusal())
}

// refusal says what the device refused.
func (m *machine) refusal() string {
	what := "the push"
	if m.Delivery == DeliveryPull {
		what = "the Package URI"
	}
	return "the device refused " + what + " (" + m.Memory.Attempt.Answer.String() + ")"
}

// unsupported reports whether a refusal can mean that the device does not accept packages in that
// way.
func unsupported(code Code) bool {
	switch code {
	case CodeNotFound, CodeMethodNotAllowed, codeTooLarge, codeUnsupportedFormat, codeInternalError, codeNotImplemented:
		return true
	default:
		return false
	}
}
