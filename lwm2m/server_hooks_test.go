package lwm2m_test

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// hookLog collects the calls of hooks.
type hookLog struct {
	mu            sync.Mutex
	refused       []lwm2m.Registration
	errs          []error
	events        []lwm2m.EventKind
	requests      []lwm2m.RequestEnd
	retransmitted []string
	queue         [][2]int
	dropped       map[string]int
}

func (l *hookLog) hooks() lwm2m.ServerHooks {
	locked := func(f func()) {
		l.mu.Lock()
		defer l.mu.Unlock()
		f()
	}
	l.dropped = map[string]int{}
	return lwm2m.ServerHooks{
		Refused: func(r lwm2m.Registration, err error) {
			locked(func() { l.refused, l.errs = append(l.refused, r), append(l.errs, err) })
		},
		Registration: func(e lwm2m.RegistrationEvent) { locked(func() { l.events = append(l.events, e.Kind) }) },
		Request:      func(r lwm2m.RequestEnd) { locked(func() { l.requests = append(l.requests, r) }) },
		Retransmission: func(endpoint string, _ lwm2m.Transport, _ netip.AddrPort) {
			locked(func() { l.retransmitted = append(l.retransmitted, endpoint) })
		},
		Queue:   func(waiting, underWay int) { locked(func() { l.queue = append(l.queue, [2]int{waiting, underWay}) }) },
		Dropped: func(what string, n int) { locked(func() { l.dropped[what] += n }) },
	}
}

// TestServerHooks follows a device from its registration to its De-register.
func TestServerHooks(t *testing.T) {
	l := new(hookLog)
	inWorld(t, lwm2m.ServerConfig{
		Hooks: l.hooks(),
		Authorize: func(_ context.Context, r lwm2m.Registration) error {
			if r.Endpoint == "other" {
				return lwm2m.ErrForbidden
			}
			return nil
		},
	}, func(t *testing.T, w *world) {
		client, stop := w.deviceStop(nil)
		require.NoError(t, client.WaitRegistered(t.Context()))
		synctest.Wait()
		version := lwm2m.NewPath(3, 0, 3)
		v, err := w.server.ReadValue(t.Context(), endpointName, version)
		require.NoError(t, err)
		require.Equal(t, lwm2m.String("1.0.0"), v)
		require.ErrorIs(t, w.server.Execute(t.Context(), endpointName, version, ""), lwm2m.ErrMethodNotAllowed)
		w.net.SetDefault(simnet.Conditions{Loss: 1})
		_, err = w.server.Read(t.Context(), endpointName, version)
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		w.net.SetDefault(simnet.Conditions{})
		stop()
		synctest.Wait()

		l.mu.Lock()
		defer l.mu.Unlock()
		require.Equal(t, lwm2m.EventRegistered, l.events[0])
		require.Equal(t, lwm2m.EventDeregistered, l.events[len(l.events)-1])
		require.Len(t, l.requests, 3)
		require.Equal(t, []string{"2.05", "4.05", "0.00"}, []string{
			l.requests[0].Code.String(), l.requests[1].Code.String(), l.requests[2].Code.String(),
		})
		require.Equal(t, lwm2m.OpRead, l.requests[2].Operation)
		require.Equal(t, version, l.requests[2].Path)
		require.ErrorIs(t, l.requests[2].Err, lwm2m.ErrTimeout)
		require.Greater(t, l.requests[2].Took, 40*time.Second)
		require.Equal(t, slices.Repeat([]string{endpointName}, 4), l.retransmitted)
		require.Contains(t, l.queue, [2]int{0, 1})
		require.Equal(t, [2]int{0, 0}, l.queue[len(l.queue)-1])
		require.Empty(t, l.dropped)
	})
}

// TestRefusalsAreNamed: a refusal names the claimed endpoint and the address.
func TestRefusalsAreNamed(t *testing.T) {
	l := new(hookLog)
	var log lines
	inWorld(t, lwm2m.ServerConfig{
		Hooks: l.hooks(), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		Authorize: func(context.Context, lwm2m.Registration) error { return lwm2m.ErrForbidden },
	}, func(t *testing.T, w *world) {
		d := w.plain()
		d.say("ep=mine", "lt=60")
		d.say("ep=mine", "lt=x")
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		require.Len(t, l.refused, 2)
		for _, r := range l.refused {
			require.Equal(t, "mine", r.Endpoint)
			require.Equal(t, lwm2m.TransportUDP, r.Transport)
			require.True(t, r.Address.IsValid())
		}
		require.ErrorIs(t, l.errs[0], lwm2m.ErrForbidden)
		require.ErrorIs(t, l.errs[1], lwm2m.ErrBadRequest)
		require.Contains(t, string(log.get()), `msg="registration refused" endpoint=mine identity="" address=`)
	})
}

// TestHooksMisbehave: hooks that panic or block do not affect devices.
func TestHooksMisbehave(t *testing.T) {
	hold := make(chan struct{})
	var mu sync.Mutex
	left := 0
	config := lwm2m.ServerConfig{Hooks: lwm2m.ServerHooks{
		Registration: func(lwm2m.RegistrationEvent) { panic("no") },
		Queue:        func(int, int) { <-hold },
		Dropped: func(what string, n int) {
			mu.Lock()
			defer mu.Unlock()
			if what == lwm2m.DropHook {
				left += n
			}
		},
		Request: func(lwm2m.RequestEnd) {},
	}}
	inWorld(t, config, func(t *testing.T, w *world) {
		w.device(nil)
		for range 5000 {
			require.Equal(t, "1.0.0", w.read("/3/0/3"))
		}
		close(hold)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, left, 500)
	})
}

// TestDisconnect disconnects a device, which is reachable again after its next Update.
func TestDisconnect(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		w.server.Disconnect("nobody")
		require.True(t, w.server.Reachable(endpointName))
		w.server.Disconnect(endpointName)
		require.False(t, w.server.Reachable(endpointName))
		_, err := w.server.ReadValue(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
		require.ErrorIs(t, err, lwm2m.ErrUnreachable)
		time.Sleep(time.Hour)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}
