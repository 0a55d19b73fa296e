package dtls

import (
	"bytes"
	"encoding/hex"
)

// secret is what we learn about the keys during a handshake: from the wire, and from pion's key
// log, whose format all implementations of TLS share. It lets us recognize a record that was made
// with a wrong key, and check the state that pion exports.
type secret struct {
	master       []byte
	clientRandom [32]byte
	serverRandom [32]byte
	suite        uint16
	theirs       []byte // the last protected record of the peer, as received
	wrote        uint64 // the number of our last protected record, plus 1
	last         []byte // the last datagram of ours that has such a record
}

// keyLog parses the lines that pion writes: "CLIENT_RANDOM", the random and the master secret in
// hexadecimal.
type keyLog struct{ h *handshake }

func (l keyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 || string(fields[0]) != "CLIENT_RANDOM" {
		return len(line), nil
	}
	random, err := hex.DecodeString(string(fields[1]))
	master, err2 := hex.DecodeString(string(fields[2]))
	if err != nil || err2 != nil || len(random) != 32 {
		return len(line), nil
	}
	l.h.mu.Lock()
	l.h.secret.master, l.h.secret.clientRandom = master, [32]byte(random)
	l.h.mu.Unlock()
	l.h.checkKey()
	return len(line), nil
}

// received records the protected records of the peer.
func (h *handshake) received(b []byte) {
	found := false
	for len(b) > 0 {
		r, rest, err := nextRecord(b, cidSize)
		if err != nil {
			break
		}
		if b = rest; r.epoch == 1 && (r.typ == recordHandshake || r.typ == recordWithCID) {
			h.mu.Lock()
			h.secret.theirs = bytes.Clone(r.raw)
			h.mu.Unlock()
			found = true
		}
	}
	if found {
		h.checkKey()
	}
}

// checkKey ends a handshake with a client whose record was made with another key. pion would drop
// the record, and neither side would learn the reason.
func (h *handshake) checkKey() {
	h.mu.Lock()
	s := h.secret
	silent := h.silent
	h.mu.Unlock()
	if h.client || silent || s.master == nil || s.theirs == nil {
		return
	}
	r := result{
		LocalRandom: s.serverRandom, RemoteRandom: s.clientRandom, CipherSuiteID: s.suite, MasterSecret: s.master,
	}
	protect, err := r.protection()
	if err != nil {
		return
	}
	record, _, err := nextRecord(bytes.Clone(s.theirs), cidSize)
	if err != nil {
		return
	}
	if _, err := protect.open(record); err != nil {
		h.abort(ErrWrongKey)
	}
}

// writes records what pion sends: the random of a ServerHello, and the protected records, which are
// last in a datagram. h.mu is held.
func (h *handshake) writes(b []byte) {
	const (
		serverHello = 2
		body        = recordHeaderSize + 12 // type, length, number, fragment
	)
	for rest := b; len(rest) >= recordHeaderSize; {
		if rest[3] == 0 && rest[4] == 1 {
			r := record{raw: rest}
			h.secret.wrote = max(h.secret.wrote, r.number()+1)
			h.secret.last = bytes.Clone(b)
			return
		}
		r, more, err := nextRecord(rest, 0)
		if err != nil {
			return
		}
		rest = more
		if r.typ != recordHandshake || len(r.raw) < body+34 || r.raw[recordHeaderSize] != serverHello {
			continue
		}
		h.secret.serverRandom = [32]byte(r.raw[body+2 : body+34])
		if _, suite, ok := takeVector(r.raw[body+34:], 1); ok && len(suite) >= 2 {
			h.secret.suite = uint16(suite[0])<<8 | uint16(suite[1])
		}
	}
}
