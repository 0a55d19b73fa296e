package dtls

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"

	pion "github.com/pion/dtls/v3"
)

// result holds the fields of pion's serialized state that are needed to protect records. The names
// are pion's.
type result struct {
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

// resultOf takes the state of a connection whose handshake is complete and which can no longer
// write.
func resultOf(conn *pion.Conn) (*result, error) {
	state, ok := conn.ConnectionState()
	if !ok {
		return nil, errors.New("dtls: has no state")
	}
	raw, err := state.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return decodeResult(raw)
}

func decodeResult(raw []byte) (*result, error) {
	r := new(result)
	err := gob.NewDecoder(bytes.NewReader(raw)).Decode(r)
	return r, err
}

// errState: a later version of pion may rename a field, whose value would then be zero here. Record
// numbers that start at 0 again would repeat nonces, and let an attacker read and forge records.
var errState = errors.New("dtls: the state that pion has exported is not that of the handshake")

// check compares the state that pion has exported with the messages on the wire. It returns our
// last flight.
func (r *result) check(h *handshake) (*lastFlight, error) {
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
	// The other fields are right if they decrypt our own Finished.
	return r.ownFlight(s.last)
}
