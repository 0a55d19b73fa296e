package coap

// maxEchoes is how often the last flight of a handshake is repeated.
const maxEchoes = 8

// unconfirmed reports whether the peer has sent nothing since the handshake, of
// which it had the last word.
func (ss *dtlsSession) unconfirmed() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.flight != nil
}

// confirm notes that the peer has all of the handshake.
func (ss *dtlsSession) confirm() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.flight = nil
}

// repeated is for a record that comes again, or is too old to tell. If it is the
// Finished of a peer, that repeats its last flight without counting its records on.
func (ss *dtlsSession) repeated(r dtlsRecord) {
	if !ss.unconfirmed() || r.seq >= ss.begun {
		return
	}
	ss.read.Lock()
	content, err := ss.protect.open(nil, r)
	ss.read.Unlock()
	if err == nil && r.typ == recordWithCID {
		r.typ, content = unpad(content)
	}
	if err == nil && r.typ == recordHandshake && isFinished(content) {
		ss.repeatFlight()
	}
}

// repeatFlight repeats our last flight to a peer that repeats its own, as it has
// not got ours: once for its Finished, which ends its flight, and whatever else is
// of it is in records that anybody can make. The messages are the same, in records
// with new numbers (RFC 6347, section 4.2.4).
func (ss *dtlsSession) repeatFlight() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.flight == nil || ss.echoes == maxEchoes || ss.over {
		return
	}
	ss.echoes++
	ss.flight.change++
	finished, err := ss.seal(nil, recordHandshake, ss.flight.finished)
	if err != nil {
		return
	}
	_ = ss.s.writeTo(append(appendChangeCipherSpec(nil, ss.flight.change), finished...), ss.addr, ss.local)
}
