package coap

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Devices need 20 to 40 s for the first block of a push (they erase their flash) or of a download,
// and may or may not acknowledge it before.
func TestFirstBlockIsSlow(t *testing.T) {
	body := someBody[:3000]
	for _, kind := range []string{"late", "to each copy", "separate", "separate, not confirmable", "separate, not acknowledged before"} {
		for _, wait := range []time.Duration{20 * time.Second, 25 * time.Second, 40 * time.Second} {
			for _, push := range []bool{true, false} {
				t.Run(fmt.Sprint(kind, wait, push), func(t *testing.T) {
					inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
						if w.stream && kind != "late" {
							t.Skip("of datagrams")
						}
						var into bytes.Buffer
						req := &Request{Code: GET, Into: &into}
						if push {
							req = &Request{Code: PUT, Payload: body}
						}
						done := w.do(req)
						var stored []byte
						reply := func(m *wireMessage) wireMessage {
							if b, ok, _ := findBlock(m.options, Block1); ok {
								if int(b.offset()) == len(stored) {
									stored = append(stored, m.payload...)
								}
								code := Changed
								if b.more {
									code = Continue
								}
								return wireMessage{code: code, options: AppendUint(nil, Block1, b.value())}
							}
							b, _, _ := findBlock(m.options, Block2)
							b.szx = 6
							end := min(int(b.offset())+1024, len(body))
							b.more = end < len(body)
							return wireMessage{code: Content, payload: body[b.offset():end], options: AppendUint(nil, Block2, b.value())}
						}
						first := w.next()
						answer := reply(&first.msg)
						separate := answer
						separate.token = first.msg.token
						if kind == "separate" || kind == "separate, not confirmable" {
							w.answer(first, wireMessage{})
						}
						time.Sleep(wait)
						switch kind {
						case "late":
							w.answer(first, answer)
						case "to each copy":
							for range 4 {
								w.answer(first, answer)
							}
						case "separate, not confirmable":
							separate.typ = nonConfirmable
							w.send(separate)
						default:
							w.send(separate)
						}
						seen := map[uint16]bool{first.msg.mid: true}
						go func() {
							for p := w.next(); p != nil; p = w.next() {
								if !isRequest(p.msg.code) || seen[p.msg.mid] && !w.stream {
									continue
								}
								seen[p.msg.mid] = true
								w.answer(p, reply(&p.msg))
							}
						}()
						got := <-done
						require.NoError(t, got.err)
						require.Less(t, got.took, wait+5*time.Second)
						if push {
							require.Equal(t, Changed, got.resp.Code)
							require.Equal(t, body, stored)
						} else {
							require.Equal(t, body, into.Bytes())
						}
					})
				})
			}
		}
	}
}

// A peer may change the size of the blocks that it sends or requests at any block.
func TestPeerChangesBlockSize(t *testing.T) {
	body := someBody[:9000]
	for _, szxs := range [][]uint8{{6, 5}, {6, 6, 4, 2, 0}, {2, 0}, {4, 6}, {0, 6}, {6, 0, 6}, {bert, 6}, {bert, 6, bert, 3}} {
		t.Run(fmt.Sprint(szxs), func(t *testing.T) {
			stored := make(chan []byte, 1)
			config := Config{Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
				if r.Code == GET {
					return &Response{Code: Content, Payload: body}
				}
				stored <- bytes.Clone(r.Payload)
				return &Response{Code: Changed}
			})}
			inTransports(t, config, nil, func(t *testing.T, w *wirePeer) {
				// size is that of the n-th block at an offset, which must be a multiple of it.
				size := func(n, offset int) (uint8, int) {
					szx := szxs[min(n/2, len(szxs)-1)]
					if szx == bert && !w.stream {
						szx = maxSZX
					}
					if offset%(block{szx: szx}).size() != 0 {
						szx, _ = alignedSZX(int64(offset), maxSZX)
					}
					if szx == bert {
						return szx, 2048
					}
					return szx, block{szx: szx}.size()
				}
				for n, at := 0, 0; at < len(body); n++ {
					szx, most := size(n, at)
					end := min(at+most, len(body))
					b := blockAt(int64(at), szx)
					b.more = end < len(body)
					w.send(wireMessage{code: PUT, token: makeToken([]byte{byte(n), 1}), options: Options{{ID: Block1, Value: b.append(nil)}}, payload: body[at:end]})
					want := Continue
					if !b.more {
						want = Changed
					}
					require.Equal(t, want, w.next().msg.code, "block at %d of %d", at, most)
					at = end
				}
				require.Equal(t, body, <-stored)

				var got []byte
				for n, more := 0, true; more; n++ {
					szx, _ := size(n, len(got))
					b := blockAt(int64(len(got)), szx)
					w.send(wireMessage{code: GET, token: makeToken([]byte{byte(n), 2}), options: Options{{ID: Block2, Value: b.append(nil)}}})
					m := w.next().msg
					require.Equal(t, Content, m.code)
					served, _, err := findBlock(m.options, Block2)
					require.NoError(t, err)
					require.EqualValues(t, len(got), served.offset())
					got, more = append(got, m.payload...), served.more
				}
				require.Equal(t, body, got)
			})
		})
	}
}

// Devices number their notifications in different ways.
func TestObserveNumbers(t *testing.T) {
	for _, test := range []struct {
		name    string
		numbers []int // -1: no Observe
		pause   time.Duration
		udp     []byte // delivered
		stream  []byte
	}{
		{"counting", []int{5, 6, 9}, time.Second, []byte{0, 1, 2}, []byte{0, 1, 2}},
		{"constant", []int{4, 4, 4}, time.Second, []byte{0, 1, 2}, []byte{0, 1, 2}},
		{"always 0", []int{0, 0, 0}, time.Second, []byte{0, 1, 2}, []byte{0, 1, 2}},
		{"falling", []int{3, 2, 1}, time.Second, nil, []byte{0, 1, 2}},
		{"falling, seldom", []int{3, 2, 1}, 3 * time.Minute, []byte{0, 1, 2}, []byte{0, 1, 2}},
		// The first notification without a number is the last: it ends the observation.
		{"absent", []int{-1, -1}, time.Second, []byte{0}, []byte{0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTransports(t, Config{}, nil, func(t *testing.T, w *wirePeer) {
				var got []byte
				made := make(chan *Observation, 1)
				go func() {
					o, _, err := w.e.Observe(t.Context(), w.as, &Request{Code: GET}, func(r *Response) {
						if r != nil { // nil: the peer is gone
							got = append(got, r.Payload...)
						}
					})
					if err != nil {
						o = nil
					}
					made <- o
				}()
				asked := w.next()
				start := uint32(4)
				if test.numbers[0] == 0 {
					start = 0
				}
				w.answer(asked, wireMessage{code: Content, payload: []byte{9}, options: AppendUint(nil, Observe, start)})
				require.NotNil(t, <-made)
				for i, n := range test.numbers {
					time.Sleep(test.pause)
					m := wireMessage{typ: nonConfirmable, code: Content, token: asked.msg.token, payload: []byte{byte(i)}}
					if n >= 0 {
						m.options = AppendUint(nil, Observe, uint32(n))
					}
					w.send(m)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				want := test.udp
				if w.stream {
					want = test.stream
				}
				require.Equal(t, want, got)
			})
		})
	}
}
