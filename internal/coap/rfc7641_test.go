package coap_test

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// observable is an observable resource of a device.
func observable(observers chan *coap.Observer, body []byte) coap.Config {
	return coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if o := r.Accept(); o != nil {
			observers <- o
		}
		return &coap.Response{Code: coap.Content, Payload: body}
	})}
}

func isDone(o *coap.Observer) bool {
	select {
	case <-o.Done():
		return true
	default:
		return false
	}
}

func TestObserveBothEnds(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	inWorld(t, coap.Config{}, observable(observers, []byte("0")), func(t *testing.T, w *world) {
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		var got []string
		o, resp, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET, Path: []string{"5", "0", "3"}},
			func(r *coap.Response) {
				got = append(got, string(r.Payload))
				require.EqualValues(t, len(r.Payload), r.Size)
			})
		require.NoError(t, err)
		require.NotNil(t, o)
		require.Equal(t, "0", string(resp.Payload))
		at := <-observers

		at.Notify(&coap.Response{Code: coap.Content, Payload: []byte("1")}, false)
		pass(time.Second)
		at.Notify(&coap.Response{Code: coap.Content, Payload: []byte("2")}, true)
		pass(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"1", "2"}, got)

		require.NoError(t, o.Cancel(t.Context()))
		require.True(t, isDone(at))
		at.Notify(&coap.Response{Code: coap.Content, Payload: []byte("3")}, true)
		pass(time.Second)
		synctest.Wait()
		require.Equal(t, []string{"1", "2"}, got)
	})
}

func TestObserveForget(t *testing.T) {
	for _, confirmable := range []bool{true, false} {
		observers := make(chan *coap.Observer, 1)
		inWorld(t, coap.Config{}, observable(observers, []byte("0")), func(t *testing.T, w *world) {
			o, _, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET}, func(*coap.Response) { t.Error("called") })
			require.NoError(t, err)
			at := <-observers
			o.Forget()
			require.False(t, isDone(at))
			at.Notify(&coap.Response{Code: coap.Content}, confirmable)
			pass(time.Second)
			require.True(t, isDone(at), "a Reset ends it")
		})
	}
}

func TestObserveLargeNotification(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	body := bodyOf(5000)
	inWorld(t, coap.Config{}, observable(observers, body), func(t *testing.T, w *world) {
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		var got [][]byte
		_, resp, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET}, func(r *coap.Response) {
			if r != nil {
				got = append(got, r.Payload)
			}
		})
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, resp.Payload))
		at := <-observers
		next := bytes.Repeat([]byte("abc"), 1500)
		at.Notify(&coap.Response{Code: coap.Content, Payload: next}, true)
		pass(time.Minute)
		synctest.Wait()
		require.Len(t, got, 1)
		require.True(t, bytes.Equal(next, got[0]))
	})
}

func TestObserveRefused(t *testing.T) {
	inWorld(t, coap.Config{}, hello(), func(t *testing.T, w *world) {
		o, resp, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET}, func(*coap.Response) {})
		require.NoError(t, err)
		require.Nil(t, o)
		require.Equal(t, "hello", string(resp.Payload))
	})
}

func TestObserverGivenUp(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	inWorld(t, coap.Config{}, observable(observers, []byte("0")), func(t *testing.T, w *world) {
		_, _, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET}, func(*coap.Response) {})
		require.NoError(t, err)
		at := <-observers
		w.net.Partition(serverHost, deviceHost, true)
		at.Notify(&coap.Response{Code: coap.Content}, true)
		pass(50 * time.Second)
		require.False(t, isDone(at))
		pass(50 * time.Second)
		require.True(t, isDone(at))
	})
}

func TestOnlyNewestNotificationWaits(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	inRaw(t, observable(observers, []byte("0")), func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x", option(message.Observe)))
		first := r.receive()
		synctest.Wait() // until notifications may follow
		seq, err := first.Options.Observe()
		require.NoError(t, err)
		at := <-observers
		for _, s := range []string{"1", "2", "3"} {
			at.Notify(&coap.Response{Code: coap.Content, Payload: []byte(s)}, true)
		}
		m := r.receive()
		require.Equal(t, []any{con, "1", first.Token}, []any{m.Type, string(m.Payload), m.Token})
		r.silence(time.Second)
		r.send(message.Message{Type: ack, MessageID: m.MessageID})
		m = r.receive()
		require.Equal(t, "3", string(m.Payload))
		next, err := m.Options.Observe()
		require.NoError(t, err)
		require.Greater(t, next, seq)
		r.send(message.Message{Type: rst, MessageID: m.MessageID})
		synctest.Wait()
		require.True(t, isDone(at))
	})
}

// TestSequenceGoesOn observes a resource again with the same token. The numbers must continue, else
// the peer would take new notifications for old ones (RFC 7641, section 3.4).
func TestSequenceGoesOn(t *testing.T) {
	observers := make(chan *coap.Observer, 10)
	inRaw(t, observable(observers, []byte("0")), func(t *testing.T, _ *coap.Endpoint, r *raw) {
		last := uint32(0)
		newer := func(m message.Message) {
			t.Helper()
			seq, err := m.Options.Observe()
			require.NoError(t, err)
			require.Greater(t, seq, last)
			last = seq
		}
		for mid := range int32(3) {
			m := request(con, codes.GET, mid+1, "x", option(message.Observe))
			m.Token = message.Token{0x55}
			r.send(m)
			newer(r.receive())
			synctest.Wait()
			at := <-observers
			for range 4 {
				at.Notify(&coap.Response{Code: coap.Content}, false)
				newer(r.receive())
			}
		}
	})
}

func TestObserverEnds(t *testing.T) {
	tests := map[string]func(r *raw, at *coap.Observer){
		"new registration with the token": func(r *raw, at *coap.Observer) {
			m := request(con, codes.GET, 2, "x", option(message.Observe))
			m.Token = message.Token{1, 0x55}
			r.send(m)
			r.receive()
		},
		"cancelled": func(r *raw, at *coap.Observer) {
			m := request(con, codes.GET, 2, "x", option(message.Observe, 1))
			m.Token = message.Token{1, 0x55}
			r.send(m)
			reply := r.receive()
			_, err := reply.Options.Observe()
			require.Error(r.t, err)
		},
		"reset of an earlier NON": func(r *raw, at *coap.Observer) {
			at.Notify(&coap.Response{Code: coap.Content}, false)
			m := r.receive()
			at.Notify(&coap.Response{Code: coap.Content}, false)
			r.receive()
			r.send(message.Message{Type: rst, MessageID: m.MessageID})
		},
		"error notification": func(r *raw, at *coap.Observer) {
			at.Notify(&coap.Response{Code: coap.NotFound}, false)
			require.Equal(r.t, codes.NotFound, r.receive().Code)
		},
	}
	for name, act := range tests {
		t.Run(name, func(t *testing.T) {
			observers := make(chan *coap.Observer, 2)
			inRaw(t, observable(observers, []byte("0")), func(t *testing.T, e *coap.Endpoint, r *raw) {
				r.send(request(con, codes.GET, 1, "x", option(message.Observe)))
				r.receive()
				at := <-observers
				act(r, at)
				synctest.Wait()
				require.True(t, isDone(at))
			})
		})
	}
}

func TestObserversAreBounded(t *testing.T) {
	observers := make(chan *coap.Observer, 100)
	config := observable(observers, []byte("0"))
	config.Bounds.PeerObservers = 3
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		for i := range int32(10) {
			r.send(request(con, codes.GET, i+1, "x", option(message.Observe)))
			m := r.receive()
			require.Equal(t, codes.Content, m.Code)
			_, err := m.Options.Observe()
			require.Equal(t, i >= 3, err != nil)
		}
	})
}

// So are the observers of all peers together; one that ends makes room.
func TestObserversOfAllPeersAreBounded(t *testing.T) {
	observers := make(chan *coap.Observer, 100)
	config := observable(observers, []byte("0"))
	config.Bounds.Observers = 3
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		accepted := func(i byte) bool {
			r.conn.Rebind(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 1, i}), 1000))
			r.send(request(con, codes.GET, 1, "x", option(message.Observe)))
			m := r.receive()
			require.Equal(t, codes.Content, m.Code)
			_, err := m.Options.Observe()
			return err == nil
		}
		for i := range byte(6) {
			require.Equal(t, i < 3, accepted(i))
		}
		(<-observers).Forget()
		require.True(t, accepted(7))
		require.False(t, accepted(8))
	})
}

// One notification a day is confirmable.
func TestDailyConfirmation(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	inRaw(t, observable(observers, []byte("0")), func(t *testing.T, e *coap.Endpoint, r *raw) {
		r.send(request(con, codes.GET, 1, "x", option(message.Observe)))
		r.receive()
		at := <-observers
		at.Notify(&coap.Response{Code: coap.Content}, false)
		require.Equal(t, non, r.receive().Type)
		pass(24 * time.Hour)
		at.Notify(&coap.Response{Code: coap.Content}, false)
		require.Equal(t, con, r.receive().Type)
	})
}

func TestFreshness(t *testing.T) {
	type arrival struct {
		after time.Duration
		seq   uint32
		taken bool
	}
	tests := map[string][]arrival{
		"in order":              {{0, 3, true}, {0, 4, true}, {0, 9, true}},
		"older":                 {{0, 5, true}, {0, 4, false}, {0, 6, true}},
		"same":                  {{0, 5, true}, {0, 5, true}, {0, 4, false}},
		"wraps":                 {{0, 5, true}, {0, 1 << 22, true}, {0, 3 << 21, true}, {0, 5 << 21, true}, {0, 0xffffff, true}, {0, 0, true}, {0, 0xfffffe, false}},
		"far above":             {{0, 1 << 23, true}},
		"too far above":         {{0, 1<<23 | 1, false}},
		"far below":             {{0, 1 << 23, true}, {0, 0, false}, {0, 1<<23 | 1, true}, {0, 0, true}},
		"older after 128 s":     {{0, 5, true}, {129 * time.Second, 1, true}},
		"just before 128 s":     {{0, 5, true}, {128 * time.Second, 1, false}},
		"restart of the device": {{0, 1000, true}, {time.Second, 1, false}, {130 * time.Second, 2, true}},
	}
	for name, arrivals := range tests {
		t.Run(name, func(t *testing.T) {
			inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
				var got []byte
				go e.Observe(t.Context(), r.peer(), &coap.Request{Code: coap.GET}, func(resp *coap.Response) {
					if resp != nil {
						got = append(got, resp.Payload...)
					}
				})
				m := r.receive()
				r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Options: message.Options{option(message.Observe, 1)}})
				var want []byte
				for i, a := range arrivals {
					pass(a.after)
					n := message.Message{Type: con, Code: codes.Content, MessageID: int32(100 + i), Token: m.Token, Payload: []byte{byte(i)}}
					value := make([]byte, 4)
					size, err := message.EncodeUint32(value, a.seq)
					require.NoError(t, err)
					n.Options = message.Options{option(message.Observe, value[:size]...)}
					r.send(n)
					require.Equal(t, ack, r.receive().Type, "an old one is acknowledged all the same")
					synctest.Wait()
					if a.taken {
						want = append(want, byte(i))
					}
				}
				require.Equal(t, want, got)
			})
		})
	}
}

func TestObservationEnds(t *testing.T) {
	inRaw(t, coap.Config{}, func(t *testing.T, e *coap.Endpoint, r *raw) {
		var got []codes.Code
		go e.Observe(t.Context(), r.peer(), &coap.Request{Code: coap.GET}, func(resp *coap.Response) { got = append(got, resp.Code) })
		m := r.receive()
		r.send(message.Message{Type: ack, Code: codes.Content, MessageID: m.MessageID, Token: m.Token, Options: message.Options{option(message.Observe, 1)}})
		synctest.Wait()
		r.send(message.Message{Type: con, Code: codes.NotFound, MessageID: 5, Token: m.Token})
		require.Equal(t, ack, r.receive().Type)
		synctest.Wait()
		require.Equal(t, []codes.Code{codes.NotFound}, got)
		r.send(message.Message{Type: con, Code: codes.Content, MessageID: 6, Token: m.Token, Options: message.Options{option(message.Observe, 2)}})
		require.Equal(t, rst, r.receive().Type)
	})
}

// An observation ends if its first response cannot be sent because too much is in progress with the
// peer.
func TestObservationWithoutResponse(t *testing.T) {
	var o *coap.Observer
	config := coap.Config{Bounds: coap.Bounds{PeerRequests: 1}, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		o = r.Accept()
		pass(5 * time.Second)
		return &coap.Response{Code: coap.Content}
	})}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		e.Go(r.peer(), &coap.Request{Code: coap.GET}, func(*coap.Response, error) {})
		r.send(request(con, codes.GET, 1, "x", option(message.Observe)))
		pass(10 * time.Second)
		synctest.Wait()
		require.NotNil(t, o)
		select {
		case <-o.Done():
		default:
			t.Fatal("the observation goes on")
		}
	})
}
