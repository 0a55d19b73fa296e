package coap

import "net/netip"

// BlockFields exposes a block option to tests.
type BlockFields struct {
	Num    uint32
	More   bool
	SZX    uint8
	Size   int
	Offset int64
}

// ParseBlock reads a block option value.
func ParseBlock(v []byte) (BlockFields, error) {
	b, err := parseBlock(v)
	return BlockFields{b.num, b.more, b.szx, b.size(), b.offset()}, err
}

// AppendBlock returns the option value of f.
func AppendBlock(f BlockFields) []byte {
	return block{num: f.Num, more: f.More, szx: f.SZX}.append(nil)
}

// Held counts the state of an endpoint.
type Held struct {
	Peers, Dedup, DedupBytes, Uploads, Downloads, Timers int
	Observers                                            int
	UploadBytes, StreamBytes                             int64
}

// Holds returns the state that e keeps now.
func Holds(e *Endpoint) (h Held) {
	e.table.mu.RLock()
	h.Peers = e.table.peers.Len()
	e.table.mu.RUnlock()
	e.dedup.mu.Lock()
	h.Dedup, h.DedupBytes = len(e.dedup.entries), e.dedup.bytes
	e.dedup.mu.Unlock()
	e.secure.mu.Lock()
	h.Dedup, h.DedupBytes = h.Dedup+len(e.secure.entries), h.DedupBytes+e.secure.bytes
	e.secure.mu.Unlock()
	e.uploads.mu.Lock()
	h.Uploads = len(e.uploads.entries)
	e.uploads.mu.Unlock()
	e.downloads.mu.Lock()
	h.Downloads = len(e.downloads.entries)
	e.downloads.mu.Unlock()
	e.timers.mu.Lock()
	h.Timers = len(e.timers.heap)
	e.timers.mu.Unlock()
	h.UploadBytes, h.StreamBytes = e.uploadBytes.total(), e.unwritten.Load()
	h.Observers = int(e.observers.total())
	return h
}

// Underway returns how many exchanges and requests of e are in progress.
func Underway(e *Endpoint) int { return int(e.underway.n.Load()) }

// ReportHandshake reports a failed handshake.
func ReportHandshake(e *Endpoint, addr netip.AddrPort, err error) {
	e.handshakeFailed(nil, DTLS, addr, "", err)
}
