package dtls

import (
	"bytes"
	"fmt"
)

// lastFlight is our last flight of a handshake, unprotected.
type lastFlight struct {
	change   uint64 // number of the ChangeCipherSpec
	finished []byte
	begun    uint64 // number of the peer's first record after the handshake
	echoes   uint8  // how often the flight was sent again
}

// maxEchoes limits how often the last flight of a handshake is sent again.
const maxEchoes = 8

// ownFlight decrypts our own Finished at the end of a datagram that we have sent.
func (r *result) ownFlight(sent []byte) (*lastFlight, error) {
	mirrored := *r
	mirrored.LocalRandom, mirrored.RemoteRandom, mirrored.IsClient = r.RemoteRandom, r.LocalRandom, !r.IsClient
	protect, err := mirrored.protection()
	if err != nil {
		return nil, err
	}
	f := lastFlight{begun: r.RemoteSequenceNumber}
	changed := false
	for b := bytes.Clone(sent); len(b) > 0; {
		record, rest, err := nextRecord(b, len(r.RemoteConnectionID))
		if err != nil {
			break
		}
		b = rest
		switch {
		case record.epoch == 0 && record.typ == recordChangeCipherSpec:
			f.change, changed = record.seq, true
		case record.epoch == 1 && (record.typ == recordWithCID) == (len(r.RemoteConnectionID) > 0):
			content, err := protect.open(record)
			if err != nil {
				break
			}
			if record.typ == recordWithCID {
				record.typ, content = unpad(content)
			}
			if (changed || r.IsClient) && record.typ == recordHandshake && isFinished(content) {
				f.finished = bytes.Clone(content)
				return &f, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no Finished of ours", errState)
}

// isFinished reports whether a handshake message is a Finished, the last message of a side.
func isFinished(content []byte) bool {
	const finished = 20
	return len(content) > 0 && content[0] == finished
}

// unconfirmed reports whether the handshake ended with our flight and the peer has sent nothing
// since.
func (ss *Session) unconfirmed() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.flight != nil
}

// confirm records that the peer has completed the handshake.
func (ss *Session) confirm() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.flight = nil
}

// repeated handles a record that came before, or is too old to tell. If a peer repeats its last
// flight with the same record numbers, its Finished shows that it lacks ours.
func (ss *Session) repeated(r record) {
	ss.mu.Lock()
	of := ss.flight != nil && r.seq < ss.flight.begun
	ss.mu.Unlock()
	if !of {
		return
	}
	ss.read.Lock()
	content, err := ss.protect.open(r)
	ss.read.Unlock()
	if err == nil && r.typ == recordWithCID {
		r.typ, content = unpad(content)
	}
	if err == nil && r.typ == recordHandshake && isFinished(content) {
		ss.repeatFlight()
	}
}

// repeatFlight sends our last flight again to a peer that repeats its own. It answers only the
// Finished at the end of the peer's flight, because anyone can make the other records. The messages
// are the same, in records with new numbers (RFC 6347, section 4.2.4).
func (ss *Session) repeatFlight() {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.flight == nil || ss.flight.echoes == maxEchoes || ss.over {
		return
	}
	ss.flight.echoes++
	ss.flight.change++
	finished, err := ss.seal(nil, recordHandshake, ss.flight.finished)
	if err != nil {
		return
	}
	_ = ss.s.conn.WriteTo(append(appendChangeCipherSpec(nil, ss.flight.change), finished...), ss.addr, ss.local)
}
