package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/storetest"
)

// A sentRequest is a request that the server sends to a device, without the datagrams that repeat
// it.
type sentRequest struct {
	at    time.Time
	what  string // method and path, such as "GET /5/0/3", with "observe " or "forget " before it
	token string
	to    string
}

// A sequence is all requests of the server, in their order.
type sequence struct {
	mu   sync.Mutex
	sent []sentRequest
	seen map[string]bool // messages by address and id
}

// sequence listens to the network from now on.
func (w *world) sequence() *sequence {
	s := &sequence{seen: map[string]bool{}}
	w.net.Tap(func(p simnet.Packet) {
		method, path := requestOf(p)
		if method == "" {
			return
		}
		s.mu.Lock()
		message := fmt.Sprintf("%v %x", p.To, p.Data[2:4])
		if s.seen[message] {
			s.mu.Unlock()
			return
		}
		s.seen[message] = true
		what := method + " " + path
		switch observeOf(p.Data) {
		case 0:
			what = "observe " + what
		case 1:
			what = "forget " + what
		}
		s.sent = append(s.sent, sentRequest{time.Now(), what, string(p.Data[4 : 4+p.Data[0]&15]), p.To.String()})
		s.mu.Unlock()
	})
	return s
}

// observeOf returns the value of the option Observe of a request, which comes before those of the
// path; -1 without one.
func observeOf(data []byte) int {
	rest := data[4+data[0]&15:]
	for number := 0; len(rest) > 0 && rest[0] != 0xff; {
		delta, length := int(rest[0]>>4), int(rest[0]&15)
		if number += delta; number > 6 || delta > 12 || length > 12 || len(rest) < 1+length {
			return -1
		}
		if number == 6 {
			value := 0
			for _, b := range rest[1 : 1+length] {
				value = value<<8 | int(b)
			}
			return value
		}
		rest = rest[1+length:]
	}
	return -1
}

func (s *sequence) all() []sentRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sent)
}

// names lists the requests, from the n-th on.
func (s *sequence) names(n int) (names []string) {
	for _, r := range s.all()[n:] {
		names = append(names, r.what)
	}
	return names
}

// TestOneObservation: a step is stored too late to act on, so the device is observed a second time
// under the same registration. The server ends the first observation before the second one begins.
// Otherwise a device that keeps one observation per path would end the second one together with the
// first.
func TestOneObservation(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var slow atomic.Bool
		w.restart(func(_ context.Context, call storetest.Call) error {
			if replaces(call) && slow.CompareAndSwap(true, false) {
				time.Sleep(40 * time.Second) // longer than a step may take
			}
			return nil
		}, nil)
		s := w.sequence()
		script := good()
		script.PullTime = time.Hour
		w.device(script)
		u := w.begin(w.request())
		w.phase(u.ID, fsm.PhaseTransferring)
		time.Sleep(10 * time.Second)
		slow.Store(true)
		_, err := w.mgr.Hold(w.ctx, u.ID, firmware.Hold{Holder: "op"})
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		live := ""
		observed := 0
		for _, r := range s.all() {
			switch r.what {
			case "observe GET /5/0/3":
				require.Empty(t, live, "it is observed twice: %v", s.names(0))
				live = r.token
				observed++
			case "forget GET /5/0/3":
				require.Equal(t, live, r.token, "the later one is ended")
				live = ""
			}
		}
		require.Equal(t, 2, observed, "%v", s.names(0))
		require.NotEmpty(t, live)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Contains(t, s.names(0)[len(s.names(0))-4:], "forget GET /5/0/3", "the end of the update ends it")
	})
}

// first is the start of the requests to a device that cannot be read as a whole.
var first = []string{
	"GET /5/0", "GET /5/0/3", "GET /5/0/5", "GET /5/0/8", "GET /5/0/9", "GET /5/0/14", "GET /3/0/3",
}

// TestCancelledActionStops cancels an update in the middle of each request of its first actions.
// The server sends none of the requests that would follow, and a late answer changes nothing.
func TestCancelledActionStops(t *testing.T) {
	for n := range first {
		t.Run(first[n], func(t *testing.T) {
			t.Parallel()
			var actions atomic.Int64
			config := firmware.ManagerConfig{Hooks: firmware.Hooks{
				ActionEnd: func(_ context.Context, _ firmware.Update, kind fsm.ActionKind, err error) {
					if kind != fsm.ActionCancel && !errors.Is(err, firmware.ErrGivenUp) {
						actions.Add(1)
					}
				},
			}}
			inWorld(t, config, func(w *world) {
				s := w.sequence()
				w.net.SetDefault(simnet.Conditions{Delay: 500 * time.Millisecond})
				script := good()
				script.Habits.NoInstanceRead = true
				w.device(script)
				time.Sleep(10 * time.Second)
				u := w.begin(w.request())
				for len(s.all()) <= n {
					time.Sleep(100 * time.Millisecond)
				}
				require.Equal(t, first[:n+1], s.names(0), "so far")
				u, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
				before := actions.Load()
				time.Sleep(10 * time.Minute)
				require.Empty(t, s.names(n+1))
				require.Equal(t, before, actions.Load(), "an action that was given up ends as nothing else")
				after, err := w.mgr.Get(w.ctx, u.ID)
				require.NoError(t, err)
				require.Equal(t, u, after)
			})
		})
	}
}

// TestRegisteredAgainActionStops has a device register from another address, as after a loss of
// power, in the middle of each request of the first actions. The server reads it from the
// beginning, and sends nothing to the old address.
func TestRegisteredAgainActionStops(t *testing.T) {
	for n := range first {
		t.Run(first[n], func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				s := w.sequence()
				w.net.SetDefault(simnet.Conditions{Delay: 500 * time.Millisecond})
				script := good()
				script.Habits.NoInstanceRead = true
				script.PullTime = time.Hour
				w.device(script)
				time.Sleep(10 * time.Second)
				u := w.begin(w.request())
				for len(s.all()) <= n {
					time.Sleep(100 * time.Millisecond)
				}
				var again atomic.Int64
				stop := w.srv.Watch(func(e lwm2m.RegistrationEvent) {
					if e.Kind == lwm2m.EventRegistered {
						again.Store(time.Now().UnixNano())
					}
				})
				defer stop()
				w.unreachable(true)
				w.deviceNamed(endpoint, "10.0.1.2", script)
				time.Sleep(30 * time.Second)
				require.NotZero(t, again.Load())
				var later []string
				for _, r := range s.all() {
					if strings.HasPrefix(r.to, "10.0.1.2:") {
						later = append(later, r.what)
					} else {
						require.LessOrEqual(t, r.at.UnixNano(), again.Load(), "%s to where the device was", r.what)
					}
				}
				require.Equal(t, append(slices.Clone(first), "PUT /5/0/1"), later[:min(len(first)+1, len(later))], "%v", s.names(0))
				w.unreachable(false)
				_, err := w.mgr.Cancel(w.ctx, u.ID)
				require.NoError(t, err)
			})
		})
	}
}
