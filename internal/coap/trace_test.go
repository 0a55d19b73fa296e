package coap

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// keeps is a Tracer of one peer.
type keeps struct {
	peer  Peer
	taken int
}

func (k *keeps) Wants(p Peer, _ Options) bool { return p == k.peer }
func (k *keeps) Take(*TracedMessage)          { k.taken++ }

// TestTraceOffCostsNothing: without a trace, and for peers that are not traced, a message allocates
// nothing.
func TestTraceOffCostsNothing(t *testing.T) {
	e := New(Config{})
	link := &socket{e: e}
	a := &association{home: &home{e: e, link: nullLink{link}}, peer: Peer{Transport: UDP, Addr: netip.MustParseAddrPort("10.0.0.1:1")}}
	m := &wireMessage{code: GET, options: Options{{ID: URIPath, Value: []byte("rd")}}}
	record := m.appendDatagram(nil)
	both := func() {
		a.traceIn(TraceMessage, m, len(record))
		a.write(record)
	}
	require.Zero(t, testing.AllocsPerRun(100, both))
	other := &keeps{}
	e.Trace(other)
	require.Zero(t, testing.AllocsPerRun(100, both))
	require.Zero(t, other.taken)
	e.Trace(&keeps{peer: a.peer})
	both()
	mine := &keeps{peer: a.peer}
	e.Trace(mine)
	both()
	require.Equal(t, 2, mine.taken)
	e.Trace(nil)
	both()
	require.Equal(t, 2, mine.taken)
}

// nullLink sends nothing.
type nullLink struct{ *socket }

func (nullLink) write(*association, []byte) error           { return nil }
func (nullLink) localAddr(*association) (at netip.AddrPort) { return at }

// BenchmarkTraceOff is the cost of a trace that is off.
func BenchmarkTraceOff(b *testing.B) {
	a := &association{home: &home{e: New(Config{})}}
	m := &wireMessage{code: GET}
	for b.Loop() {
		a.traceIn(TraceMessage, m, 4)
	}
}
