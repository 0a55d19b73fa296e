package coap

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// registered are the options whose definition we follow: number, minimum and maximum length, and
// whether several may come in a request and in a response.
var registered = []struct {
	id                OptionID
	least, most       int
	requests, replies bool
}{
	{1, 0, 8, true, true}, {3, 1, 255, false, false}, {4, 1, 8, true, false}, {5, 0, 0, false, false},
	{6, 0, 3, false, false}, {7, 0, 2, false, false}, {8, 0, 255, true, true}, {11, 0, 255, true, true},
	{12, 0, 2, false, false}, {14, 0, 4, false, false}, {15, 0, 255, true, true}, {17, 0, 2, false, false},
	{20, 0, 255, true, true}, {23, 0, 3, false, false}, {27, 0, 3, false, false}, {28, 0, 4, false, false},
	{35, 1, 1034, false, false}, {39, 1, 255, false, false}, {60, 0, 4, false, false}, {252, 1, 40, false, false},
	{258, 0, 1, false, false}, {292, 0, 8, true, true},
}

// Every option of illegal length, and every forbidden repetition of an option, is refused if
// critical and ignored if elective, in requests and responses, over all transports.
func TestIllegalOptions(t *testing.T) {
	type illegal struct {
		name   string
		values [][]byte
		legal  int // of the values
	}
	for _, o := range registered {
		for _, reply := range []bool{false, true} {
			forms := []illegal{{"long", [][]byte{make([]byte, o.most+1)}, 0}}
			if o.least > 0 {
				forms = append(forms, illegal{"short", [][]byte{make([]byte, o.least-1)}, 0})
			}
			if again := o.requests; !again || reply && !o.replies {
				v := make([]byte, o.least)
				forms = append(forms, illegal{"again", [][]byte{v, v}, 1})
			}
			for _, form := range forms {
				t.Run(fmt.Sprintf("%d %s in reply=%v", o.id, form.name, reply), func(t *testing.T) {
					var opts Options
					for _, v := range form.values {
						opts = append(opts, Option{ID: o.id, Value: v})
					}
					seen := make(chan int, 1)
					count := func(opts Options) int {
						n := 0
						for _, got := range opts {
							if got.ID == o.id {
								n++
							}
						}
						return n
					}
					config := Config{Handler: HandlerFunc(func(_ context.Context, r *IncomingRequest) *Response {
						select {
						case seen <- count(r.Options):
						default:
						}
						return &Response{Code: Changed}
					})}
					inTransports(t, config, nil, func(t *testing.T, w *wirePeer) {
						if reply {
							illegalReply(t, w, o.id, opts, form.legal)
							return
						}
						w.send(wireMessage{code: POST, options: opts})
						got := w.next().msg.code
						if critical(o.id) {
							require.Equal(t, BadOption, got)
							require.Empty(t, seen)
							return
						}
						if o.id != NoResponse || form.legal == 0 { // 0: all are wanted
							require.Equal(t, Changed, got)
						}
						require.Equal(t, form.legal, <-seen)
					})
				})
			}
		}
	}
}

func illegalReply(t *testing.T, w *wirePeer, id OptionID, opts Options, legal int) {
	done := w.do(&Request{Code: GET})
	asked := w.next()
	w.answer(asked, wireMessage{code: Content, options: opts, payload: []byte{1}})
	synctest.Wait()
	if critical(id) {
		select {
		case got := <-done:
			require.Fail(t, "answered", "%v %v", got.resp, got.err)
		default:
		}
		return
	}
	got := <-done
	require.NoError(t, got.err)
	require.Equal(t, []byte{1}, got.resp.Payload)
	switch id {
	case ETag:
		require.Len(t, got.resp.ETag, legal) // which is one byte
	case ContentFormat:
		require.Equal(t, legal > 0, got.resp.ContentFormat.IsSet())
	case Observe, Size1, Size2:
		// are nothing here
	default:
		require.Len(t, got.resp.Options, legal)
	}
}

// Values at the limits of the legal lengths are accepted.
func TestLegalOptions(t *testing.T) {
	for _, o := range registered {
		for _, n := range []int{o.least, o.most} {
			for _, code := range []Code{GET, Content} {
				m := wireMessage{code: code, options: Options{{ID: o.id, Value: make([]byte, n)}}}
				if o.requests && (code == GET || o.replies) {
					m.options = append(m.options, m.options[0])
				}
				var got wireMessage
				require.NoError(t, got.parse(m.appendDatagram(nil)))
				if proxy := o.id == ProxyURI || o.id == ProxyScheme; proxy && code == Content {
					require.Equal(t, o.id, got.refused)
					continue
				}
				require.Zero(t, got.refused)
				require.True(t, equalMessages(&m, &got), "option %d of %d bytes", o.id, n)
			}
		}
	}
}

// Each signal numbers its own options.
func TestIllegalOptionsOfSignals(t *testing.T) {
	for _, test := range []struct {
		name string
		m    wireMessage
		ends bool
	}{
		{"long Max-Message-Size", wireMessage{code: signalCSM, options: Options{{ID: 2, Value: []byte{1, 0, 0, 0, 0}}}}, false},
		{"Max-Message-Size twice", wireMessage{code: signalCSM, options: Options{{ID: 2, Value: []byte{9, 0}}, {ID: 2, Value: []byte{1}}}}, false},
		{"Block-Wise-Transfer with a value", wireMessage{code: signalCSM, options: Options{{ID: 4, Value: []byte{1}}}}, false},
		{"unknown elective", wireMessage{code: signalCSM, options: Options{{ID: 6, Value: []byte{1}}}}, false},
		{"unknown critical", wireMessage{code: signalCSM, options: Options{{ID: 1, Value: nil}}}, true},
		{"unknown critical of a Ping", wireMessage{code: signalPing, options: Options{{ID: 11, Value: nil}}}, true},
		{"Custody with a value", wireMessage{code: signalPing, options: Options{{ID: 2, Value: []byte{1}}}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inPipe(t, Config{}, Options{{ID: 2, Value: []byte{9, 0}}}, func(t *testing.T, w *wirePeer) {
				w.send(test.m)
				var said []Code
				if !test.ends {
					w.send(wireMessage{code: signalPing, token: makeToken([]byte{7})})
				}
				for p := w.next(); p != nil; p = w.next() {
					said = append(said, p.msg.code)
					if p.msg.token == makeToken([]byte{7}) {
						break
					}
				}
				require.Equal(t, test.ends, slices.Contains(said, signalAbort))
				require.Equal(t, !test.ends, slices.Contains(said, signalPong))
				if !test.ends && test.m.code == signalCSM {
					require.Equal(t, capabilities{size: 0x900}, *w.e.table.get(w.as).link.(*stream).peer.Load())
				}
			})
		})
	}
}
