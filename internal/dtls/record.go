package dtls

import (
	"encoding/binary"
	"errors"
	"slices"

	pion "github.com/pion/dtls/v3"
)

// Content types of DTLS records.
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplication      = 23
	recordWithCID          = 25 // tls12_cid: the protected content has the true type (RFC 9146)
)

const (
	recordHeaderSize = 13
	// cidSize is the length of our Connection IDs. It is constant, because records do not contain
	// it.
	cidSize = 8
	// maxRecord is the size of the largest datagram that is read. Certificates in handshakes need
	// that much.
	maxRecord = 8192
	// maxSequence is the last record number of an epoch.
	maxSequence = 1<<48 - 1
)

// connectionID names a session in the records of a peer.
type connectionID [cidSize]byte

// record is a record, protected or not, with its header fields.
type record struct {
	raw    []byte
	typ    byte
	epoch  uint16
	seq    uint64
	header int // bytes
}

// number reads the record number from the header.
func (r record) number() uint64 { return binary.BigEndian.Uint64(r.raw[3:]) & maxSequence }

func (r record) body() []byte { return r.raw[r.header:] }

var errRecord = errors.New("dtls: malformed DTLS record")

// nextRecord splits off the first record of a datagram. cid is the length of the Connection IDs.
func nextRecord(b []byte, cid int) (r record, rest []byte, err error) {
	if len(b) < recordHeaderSize {
		return r, nil, errRecord
	}
	r.typ, r.header = b[0], recordHeaderSize
	if r.typ == recordWithCID {
		r.header += cid
	}
	if len(b) < r.header {
		return r, nil, errRecord
	}
	end := r.header + int(binary.BigEndian.Uint16(b[r.header-2:]))
	if end > len(b) {
		return r, nil, errRecord
	}
	r.epoch = binary.BigEndian.Uint16(b[3:])
	r.raw = b[:end:end]
	r.seq = r.number()
	return r, b[end:], nil
}

// appendAlert appends a fatal alert without protection.
func appendAlert(dst []byte, description byte) []byte {
	dst = append(dst, recordAlert, 0xfe, 0xfd, 0, 0)
	// The number is higher than those of the handshake.
	dst = append(dst, 0, 1, 0, 0, 0, 0)
	return append(dst, 0, 2, alertFatal, description)
}

// appendChangeCipherSpec appends a ChangeCipherSpec, which has no protection.
func appendChangeCipherSpec(dst []byte, number uint64) []byte {
	dst = append(dst, recordChangeCipherSpec, 0xfe, 0xfd)
	dst = binary.BigEndian.AppendUint64(dst, number) // in epoch 0
	return append(dst, 0, 1, 1)
}

// unpad splits the protected content of a record with a Connection ID: it removes the padding, and
// returns the true type, or 0 if that is missing.
func unpad(inner []byte) (typ byte, content []byte) {
	n := len(inner)
	for n > 0 && inner[n-1] == 0 {
		n--
	}
	if n == 0 {
		return 0, nil
	}
	return inner[n-1], inner[:n-1]
}

// Alerts (RFC 5246, section 7.2).
const (
	alertWarning          = 1
	alertFatal            = 2
	alertClose            = 0
	alertBadMAC           = 20
	alertHandshakeFailure = 40
	alertDecryptError     = 51
	alertUnknownIdentity  = 115
)

// clientHello holds the fields of a ClientHello that are needed before pion sees it.
type clientHello struct {
	random [32]byte
	cookie bool
	suites []byte // two bytes each
}

// parseHello parses b if it starts with a ClientHello or the first fragment of one.
func parseHello(b []byte) (h clientHello, ok bool) {
	if len(b) < recordHeaderSize+12+2+32 || b[0] != recordHandshake || b[3]|b[4] != 0 || b[13] != 1 {
		return h, false
	}
	if b[19]|b[20]|b[21] != 0 {
		return h, false // a later fragment
	}
	b = b[recordHeaderSize+12+2:]
	copy(h.random[:], b)
	b = b[32:]
	if _, b, ok = takeVector(b, 1); !ok { // session id
		return h, false
	}
	cookie, b, ok := takeVector(b, 1)
	if !ok {
		return h, false
	}
	h.cookie = len(cookie) > 0
	h.suites, _, ok = takeVector(b, 2)
	return h, ok
}

// takeVector splits off a vector at the beginning of b. The first n bytes are its length.
func takeVector(b []byte, n int) (v, rest []byte, ok bool) {
	if len(b) < n {
		return nil, nil, false
	}
	size := 0
	for _, c := range b[:n] {
		size = size<<8 | int(c)
	}
	if b = b[n:]; len(b) < size {
		return nil, nil, false
	}
	return b[:size], b[size:], true
}

// offers reports whether the client offers one of the suites.
func (h *clientHello) offers(list []pion.CipherSuiteID) bool {
	for i := 0; i+1 < len(h.suites); i += 2 {
		if slices.Contains(list, pion.CipherSuiteID(binary.BigEndian.Uint16(h.suites[i:]))) {
			return true
		}
	}
	return false
}

// unwrapAlert returns an unprotected alert in the form that other peers understand. Once a
// Connection ID is negotiated, pion adds it to such alerts, too.
func unwrapAlert(b []byte) []byte {
	const wrapped = 2 + 1 // level, description; the type
	if len(b) < recordHeaderSize+wrapped || b[0] != recordWithCID || b[3]|b[4] != 0 || b[len(b)-1] != recordAlert {
		return b
	}
	return append(append([]byte{recordAlert}, b[1:11]...), 0, 2, b[len(b)-3], b[len(b)-2])
}

// setVersion sets the version in the handshake records in b to DTLS 1.2. The version of a first
// ClientHello means nothing (RFC 5246, appendix E.1), but some clients write 0xfe00, which pion
// drops.
func setVersion(b []byte) {
	for len(b) >= recordHeaderSize && b[0] == recordHandshake && b[3] == 0 && b[4] == 0 {
		if b[1] == 0xfe {
			b[2] = 0xfd
		}
		end := recordHeaderSize + int(binary.BigEndian.Uint16(b[11:]))
		if end > len(b) {
			return
		}
		b = b[end:]
	}
}

// replayWindow recognizes record numbers that came before, or are too old to tell (RFC 6347,
// section 4.1.2.6).
type replayWindow struct {
	next uint64 // the highest that was seen, plus 1
	seen uint64 // bit i: next-1-i was seen
}

// fresh reports whether seq was not seen before.
func (w *replayWindow) fresh(seq uint64) bool {
	if seq >= w.next {
		return true
	}
	age := w.next - 1 - seq
	return age < 64 && w.seen>>age&1 == 0
}

// mark records that seq is authentic, and reports whether it is the highest so far.
func (w *replayWindow) mark(seq uint64) (newest bool) {
	if seq >= w.next {
		w.seen = w.seen<<min(seq+1-w.next, 64) | 1
		w.next = seq + 1
		return true
	}
	w.seen |= 1 << (w.next - 1 - seq)
	return false
}
