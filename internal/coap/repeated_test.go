package coap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m/simnet"
)

// taker is a peer that accepts a body block by block and does not recognize duplicates.
type taker struct {
	gaps    bool          // it accepts any block, else only the next one
	refuses uint32        // it refuses this block once, when it first arrives
	lock    time.Duration // how long it refuses all but the next block; then it forgets the body

	stored  map[int64][]byte
	next    int64
	at      time.Time // of the last block
	refused bool
	whole   []byte // set with the last block
	hole    bool
	begun   int // how often a first block came
	seen    []uint32
}

func (d *taker) answer(m *wireMessage) wireMessage {
	b, ok, err := findBlock(m.options, Block1)
	if !ok || err != nil {
		return wireMessage{code: ServiceUnavailable}
	}
	d.seen = append(d.seen, b.num)
	open := d.next > 0 && time.Since(d.at) < d.lock
	switch {
	case d.refuses > 0 && b.num == d.refuses && !d.refused:
		d.refused = true
		return wireMessage{code: ServiceUnavailable}
	case d.gaps || open && b.offset() == d.next || !open && b.num == 0:
		if b.num == 0 && !open {
			d.begun++
			d.stored, d.next = map[int64][]byte{}, 0
		}
	case open:
		return wireMessage{code: ServiceUnavailable}
	default:
		return wireMessage{code: RequestEntityIncomplete}
	}
	d.stored[b.offset()] = bytes.Clone(m.payload)
	d.next, d.at = max(d.next, b.offset()+int64(len(m.payload))), time.Now()
	reply := wireMessage{code: Continue, options: AppendUint(nil, Block1, b.value())}
	if !b.more {
		reply.code = Changed
		for int64(len(d.whole)) < d.next {
			block := d.stored[int64(len(d.whole))]
			if block == nil {
				d.hole = true
				break
			}
			d.whole = append(d.whole, block...)
		}
		d.next = 0
	}
	return reply
}

// lossy loses a share of the datagrams between an endpoint and its peer.
func (w *wirePeer) lossy(seed uint64, share float64) {
	for i, way := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"10.0.0.2", "10.0.0.1"}} {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		w.net.SetLink(netip.MustParseAddr(way[0]), netip.MustParseAddr(way[1]), simnet.Conditions{
			Delay: 50 * time.Millisecond, Drop: func(simnet.Packet) bool { return random.Float64() < share },
		})
	}
}

// dropFirst loses the first datagram after some of the peer's, or of ours.
func (w *wirePeer) dropFirst(ofPeer bool, after int) {
	from, to := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	if ofPeer {
		from, to = to, from
	}
	n := 0
	w.net.SetLink(from, to, simnet.Conditions{Drop: func(simnet.Packet) bool {
		n++
		return n == after+1
	}})
}

var someBody = bytes.Repeat([]byte("0123456789abcde\n"), 40<<10/16)

// A peer without duplicate recognition refuses a retransmitted block that it already has. If
// SkipTaken marks it as such a peer, it gets the next block.
func TestSkipTaken(t *testing.T) {
	for seed := range uint64(40) {
		inUDP(t, Config{}, func(t *testing.T, w *wirePeer) {
			w.lossy(seed, 0.05)
			d := &taker{lock: 300 * time.Second}
			got := w.answerAll(&Request{Code: PUT, Payload: someBody, SkipTaken: true}, d.answer)
			if got.err != nil {
				// The answer to the last block was lost, which the endpoint cannot know.
				require.ErrorIs(t, got.err, ErrTimeout)
				require.ErrorContains(t, got.err, "the answer to the last block was lost")
			} else {
				require.Equal(t, Changed, got.resp.Code, "seed %d: %v", seed, d.seen)
			}
			require.Equal(t, someBody, d.whole)
			require.Equal(t, 1, d.begun)
			require.Less(t, got.took, time.Minute, "seed %d", seed)
		})
	}
}

// Without SkipTaken no block is skipped, whatever the peer does. The result is the body or the
// right error.
func TestRepeatedBlockIsRefused(t *testing.T) {
	for _, lost := range []struct {
		name   string
		ofPeer bool
	}{{"answer", true}, {"block", false}} {
		for _, at := range []int{0, 1, 5, 38, 39} {
			for name, d := range map[string]*taker{
				"took it":              {lock: 300 * time.Second},
				"takes gaps":           {gaps: true},
				"takes gaps, once not": {gaps: true, refuses: uint32(at)},
				"no gaps, once not":    {lock: 300 * time.Second, refuses: uint32(at)},
			} {
				t.Run(fmt.Sprintf("%s: %s of %d lost", name, lost.name, at), func(t *testing.T) {
					inUDP(t, Config{}, func(t *testing.T, w *wirePeer) {
						w.dropFirst(lost.ofPeer, at)
						var again atomic.Bool
						notice := func(n Notice) {
							if n == NoticeRepeated {
								again.Store(true)
							}
						}
						got := w.answerAll(&Request{Code: PUT, Payload: someBody, Notice: notice}, d.answer)
						require.False(t, d.hole, "%v", d.seen)
						for i, num := range d.seen {
							require.LessOrEqual(t, num, uint32(max(i, 1)), "%v", d.seen)
						}
						switch {
						case got.err != nil:
							require.Equal(t, 39, at)
							require.ErrorIs(t, got.err, ErrTimeout)
							require.Equal(t, someBody, d.whole)
						case d.lock > 0 && lost.ofPeer && at == 0:
							// The lock expires, and the body begins again.
							require.Equal(t, someBody, d.whole)
							require.Less(t, got.took, 6*time.Minute)
						case name == "took it" && lost.ofPeer:
							require.True(t, again.Load())
							require.Contains(t, []Code{ServiceUnavailable, RequestEntityIncomplete}, got.resp.Code)
							require.Equal(t, 1, d.begun, "it was pushed again")
							require.Less(t, got.took, 6*time.Minute)
						default:
							require.Equal(t, Changed, got.resp.Code)
							require.Equal(t, someBody, d.whole)
							require.Less(t, got.took, 10*time.Second)
						}
					})
				})
			}
		}
	}
}

// After a skipped block, anything but success for the next one ends the upload.
func TestSkipTakenStops(t *testing.T) {
	echo := func(code Code, num uint32, more bool) wireMessage {
		return wireMessage{code: code, options: AppendUint(nil, Block1, block{num: num, more: more, szx: 6}.value())}
	}
	for name, test := range map[string]struct {
		answer wireMessage // to block 3, after the refused one
		code   Code        // of the final response; Empty: an error
		goesOn bool
	}{
		"2.31":              {echo(Continue, 3, true), Changed, true},
		"2.04":              {echo(Changed, 3, false), Changed, true},
		"2.31 without echo": {wireMessage{code: Continue}, Empty, false},
		"2.04 of another":   {echo(Changed, 4, true), Empty, false},
		"2.01":              {echo(Created, 3, true), Empty, false},
		"5.03":              {wireMessage{code: ServiceUnavailable}, ServiceUnavailable, false},
		"5.03 with echo":    {echo(ServiceUnavailable, 3, true), ServiceUnavailable, false},
		"4.08":              {wireMessage{code: RequestEntityIncomplete}, RequestEntityIncomplete, false},
		"4.13":              {wireMessage{code: RequestEntityTooLarge}, RequestEntityTooLarge, false},
		"4.00":              {wireMessage{code: BadRequest}, BadRequest, false},
		"5.00":              {wireMessage{code: InternalServerError}, InternalServerError, false},
	} {
		t.Run(name, func(t *testing.T) {
			inUDP(t, Config{}, func(t *testing.T, w *wirePeer) {
				var seen []uint32
				repeated := false
				notice := func(n Notice) { repeated = repeated || n == NoticeRepeated }
				got := w.answerAll(&Request{Code: PUT, Payload: someBody, SkipTaken: true, Notice: notice}, func(m *wireMessage) wireMessage {
					b, _, _ := findBlock(m.options, Block1)
					seen = append(seen, b.num)
					switch {
					case b.num == 2 && seen[len(seen)-2] == 1:
						return wireMessage{} // the answer is lost
					case b.num == 2:
						return wireMessage{code: ServiceUnavailable}
					case b.num == 3:
						return test.answer
					case b.more:
						return echo(Continue, b.num, true)
					}
					return echo(Changed, b.num, false)
				})
				if test.code == Empty {
					require.ErrorIs(t, got.err, ErrProtocol)
				} else {
					require.NoError(t, got.err)
					require.Equal(t, test.code, got.resp.Code)
					require.Equal(t, !test.goesOn, repeated)
				}
				if test.goesOn {
					require.Len(t, seen, 40+1)
				} else {
					require.Equal(t, []uint32{0, 1, 2, 2, 3}, seen)
				}
			})
		})
	}
}

// A peer that refuses the first copy of a block is busy, and no block is skipped.
func TestBusyIsNoLostAnswer(t *testing.T) {
	inUDP(t, Config{}, func(t *testing.T, w *wirePeer) {
		d := &taker{gaps: true, refuses: 5}
		got := w.answerAll(&Request{Code: PUT, Payload: someBody, SkipTaken: true}, d.answer)
		require.NoError(t, got.err)
		require.Equal(t, Changed, got.resp.Code)
		require.Equal(t, someBody, d.whole)
	})
}
