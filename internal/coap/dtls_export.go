package coap

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"slices"

	"github.com/pion/dtls/v3"
)

// handshakeResult is what pion serialises of an association, as far as it is
// needed to protect records with it.
type handshakeResult struct {
	HandshakeComplete                     bool
	LocalRandom, RemoteRandom             [32]byte
	CipherSuiteID                         uint16
	MasterSecret                          []byte
	SequenceNumber, RemoteSequenceNumber  uint64
	LocalEpoch, RemoteEpoch               uint16
	IdentityHint                          []byte
	LocalConnectionID, RemoteConnectionID []byte
	IsClient                              bool
}

// resultOf takes over from a connection whose handshake is complete, and which
// can no longer write.
func resultOf(conn *dtls.Conn) (*handshakeResult, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errors.New("coap: DTLS has no state")
	}
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return decodeResult(raw)
}

func decodeResult(raw []byte) (*handshakeResult, error) {
	r := new(handshakeResult)
	err := gob.NewDecoder(bytes.NewReader(raw)).Decode(r)
	return r, err
}

// errState: a later version of pion may call a field something else, whose value is
// then zero here. Record numbers that begin at 0 again repeat nonces, with which an
// attacker reads and forges what the keys protect.
var errState = errors.New("coap: DTLS state that pion has exported is not that of the handshake")

// check compares what pion has exported with what went over the wire. It returns
// what our last flight was.
func (r *handshakeResult) check(h *dtlsHandshake) (*lastFlight, error) {
	h.mu.Lock()
	s, named := h.secret, h.identity
	h.mu.Unlock()
	client, server := r.RemoteRandom, r.LocalRandom
	if r.IsClient {
		client, server = server, client
	}
	psk := !isCertificateSuite(r.CipherSuiteID)
	for _, c := range []struct {
		field string
		ok    bool
	}{
		{"HandshakeComplete", r.HandshakeComplete},
		{"IsClient", r.IsClient == h.client},
		{"MasterSecret", len(r.MasterSecret) == 48 && bytes.Equal(r.MasterSecret, s.master)},
		{"client random", client == s.clientRandom && client != [32]byte{}},
		{"server random", server != [32]byte{} && (h.client || server == s.serverRandom)},
		{"CipherSuiteID", r.CipherSuiteID != 0 && (h.client || r.CipherSuiteID == s.suite)},
		{"LocalEpoch", r.LocalEpoch == 1},
		{"RemoteEpoch", r.RemoteEpoch == 1},
		{"SequenceNumber", r.SequenceNumber != 0 && r.SequenceNumber >= s.wrote},
		{"RemoteSequenceNumber", r.RemoteSequenceNumber != 0},
		{"IdentityHint", h.client || !psk || len(named) > 0 && bytes.Equal(r.IdentityHint, named)},
		{"LocalConnectionID", (len(r.LocalConnectionID) > 0) == (len(s.theirs) > 0 && s.theirs[0] == recordWithCID)},
	} {
		if !c.ok {
			return nil, fmt.Errorf("%w: %s", errState, c.field)
		}
	}
	// The rest is right if our own Finished comes out.
	return r.ownFlight(s.last)
}

// lastFlight is our last flight, without protection.
type lastFlight struct {
	change   uint64 // number of the ChangeCipherSpec
	finished []byte
}

// ownFlight opens our own Finished at the end of a datagram that we have sent.
func (r *handshakeResult) ownFlight(sent []byte) (*lastFlight, error) {
	mirrored := *r
	mirrored.LocalRandom, mirrored.RemoteRandom, mirrored.IsClient = r.RemoteRandom, r.LocalRandom, !r.IsClient
	protect, err := mirrored.protection()
	if err != nil {
		return nil, err
	}
	var f lastFlight
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
			content, err := protect.open(nil, record)
			if err != nil {
				break
			}
			if record.typ == recordWithCID {
				record.typ, content = unpad(content)
			}
			if (changed || r.IsClient) && record.typ == recordHandshake && isFinished(content) {
				f.finished = content
				return &f, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no Finished of ours", errState)
}

// isFinished reports whether a handshake message is the last one of a side.
func isFinished(content []byte) bool {
	const finished = 20
	return len(content) > 0 && content[0] == finished
}

func isCertificateSuite(id uint16) bool {
	return slices.Contains(certificateSuites, dtls.CipherSuiteID(id))
}
