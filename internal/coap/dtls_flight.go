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

// echo repeats the last flight to a peer that repeats its own, as it has not
// got ours. Its records are in epoch 0 and can be anybody's.
func (ss *dtlsSession) echo(r dtlsRecord) {
	if r.typ == recordHandshake || r.typ == recordChangeCipherSpec {
		ss.repeatFlight()
	}
}

func (ss *dtlsSession) repeatFlight() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.flight != nil && ss.echoes < maxEchoes && !ss.over {
		ss.echoes++
		// The very same records: one that has arrived is a replay, and
		// no number is used for two.
		_ = ss.s.writeTo(ss.flight, ss.addr)
	}
}
