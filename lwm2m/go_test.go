package lwm2m_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

var firmwareVersion = lwm2m.NewPath(3, 0, 3)

// answers makes requests and collects their answers and notices.
type answers struct {
	server *lwm2m.Server

	mu      sync.Mutex
	answers []lwm2m.Answer
	notices []lwm2m.Notice
}

// call makes a request without waiting.
func (a *answers) call(r lwm2m.Request) *lwm2m.Call {
	r.Endpoint = endpointName
	r.Notice = func(n lwm2m.Notice) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.notices = append(a.notices, n)
	}
	// Held while Go runs: a callback from within Go would deadlock.
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.server.Go(r, func(answer lwm2m.Answer) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.answers = append(a.answers, answer)
	})
}

// take returns the answers and notices since the last call.
func (a *answers) take() ([]lwm2m.Answer, []lwm2m.Notice) {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	got, notices := a.answers, a.notices
	a.answers, a.notices = nil, nil
	return got, notices
}

// one returns the only answer since the last call.
func (a *answers) one(t *testing.T) lwm2m.Answer {
	t.Helper()
	got, _ := a.take()
	require.Len(t, got, 1)
	return got[0]
}

// TestGo makes a request of each kind.
func TestGo(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, s *sensor, change func(float64)) {
		a := &answers{server: w.server}
		unit := lwm2m.NewPath(3303, 0, 5701)

		a.call(lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion})
		require.Equal(t, lwm2m.Answer{Entries: []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("1.0.0")}}}, a.one(t))
		a.call(lwm2m.Request{Operation: lwm2m.OpReadComposite, Paths: []lwm2m.Path{firmwareVersion, unit}})
		require.Len(t, a.one(t).Entries, 2)
		a.call(lwm2m.Request{Operation: lwm2m.OpDiscover, Path: lwm2m.NewPath(3303)})
		require.NotEmpty(t, a.one(t).Discovered)

		var got values
		a.call(lwm2m.Request{Operation: lwm2m.OpObserve, Path: sensorValue, Values: got.add})
		o := a.one(t).Observation
		require.NotNil(t, o)
		change(3)
		require.Equal(t, []string{"0", "3"}, got.texts())

		a.call(lwm2m.Request{Operation: lwm2m.OpWrite, Path: unit, Entries: []lwm2m.Entry{{Path: unit, Value: lwm2m.String("K")}}})
		require.Equal(t, lwm2m.Answer{}, a.one(t))
		require.Equal(t, "K", w.read("/3303/0/5701"))
		a.call(lwm2m.Request{Operation: lwm2m.OpWritePartial, Path: lwm2m.NewPath(3303, 0), Entries: []lwm2m.Entry{
			{Path: unit, Value: lwm2m.String("F")},
		}})
		require.Equal(t, lwm2m.Answer{}, a.one(t))
		require.Equal(t, "F", w.read("/3303/0/5701"))
		a.call(lwm2m.Request{Operation: lwm2m.OpWriteComposite, Entries: []lwm2m.Entry{{Path: unit, Value: lwm2m.String("C")}}})
		require.Equal(t, lwm2m.Answer{}, a.one(t))
		require.Equal(t, "C", w.read("/3303/0/5701"))
		a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3303, 0, 5605), Arguments: "0='x'"})
		require.Equal(t, lwm2m.Answer{}, a.one(t))
		require.Equal(t, []string{"0='x'"}, s.executed)

		// Invalid requests are refused, and not from within Go either.
		for _, r := range []lwm2m.Request{
			{}, {Operation: 99}, {Operation: lwm2m.OpRead}, {Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3)},
			{Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Size: -1},
		} {
			a.call(r)
			require.Error(t, a.one(t).Err, "%+v", r)
		}
		w.server.Go(lwm2m.Request{Operation: lwm2m.OpDelete, Path: lwm2m.NewPath(3303, 0), Endpoint: endpointName}, nil)
		_, notices := a.take()
		require.Empty(t, notices, "of what is refused")
	})
}

func TestOperationNames(t *testing.T) {
	safe := 0
	for o := lwm2m.OpRead; o <= lwm2m.OpDelete; o++ {
		require.NotEqual(t, "unknown", o.String())
		if o.Safe() {
			safe++
		}
	}
	require.Equal(t, 5, safe)
	require.True(t, lwm2m.OpObserveComposite.Safe())
	require.Equal(t, "unknown", (lwm2m.OpDelete + 1).String())
	require.Equal(t, "unknown", lwm2m.Operation(0).String())
}

// TestNotices follows requests to a device that sleeps, is silent, and answers again.
func TestNotices(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		client := w.device(func(c *lwm2m.ClientConfig) { c.Queue, c.Lifetime = true, time.Hour })
		a := &answers{server: w.server}
		time.Sleep(2 * time.Minute)
		a.call(lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion})
		got, notices := a.take()
		require.Empty(t, got)
		require.Empty(t, notices, "it sleeps")
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("x")}}))
		got, notices = a.take()
		require.Len(t, got, 1)
		require.Equal(t, []lwm2m.Notice{lwm2m.NoticeSent}, notices)

		// A repeated request has one NoticeSent, from which a program can measure time.
		w.cut(true)
		a.call(lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion})
		time.Sleep(3 * time.Minute)
		w.cut(false)
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("x")}}))
		got, notices = a.take()
		require.Len(t, got, 1)
		require.NoError(t, got[0].Err)
		require.Equal(t, lwm2m.NoticeSent, notices[0])
		require.Equal(t, 0, slices.Index(notices, lwm2m.NoticeSent))
		require.NotContains(t, notices[1:], lwm2m.NoticeSent)
	})
}

// TestSkipSent: a request that is sent at once has no NoticeSent if the caller does without. One
// that waits behind it has.
func TestSkipSent(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		a := &answers{server: w.server}
		read := lwm2m.Request{Operation: lwm2m.OpRead, Path: firmwareVersion, SkipSent: true}
		first := a.call(read)
		require.True(t, first.Sent())
		second := a.call(read)
		require.False(t, second.Sent())
		got, notices := a.take()
		require.Len(t, got, 2)
		require.Equal(t, []lwm2m.Notice{lwm2m.NoticeSent}, notices)
		require.True(t, second.Sent())
	})
}

// TestOrderOfWaiting: requests that wait for a sleeping device reach it in the order of the calls.
func TestOrderOfWaiting(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		s := &sensor{}
		client := w.device(func(c *lwm2m.ClientConfig) { c.Objects, c.Queue, c.Lifetime = append(c.Objects, s), true, time.Hour })
		time.Sleep(2 * time.Minute)
		a := &answers{server: w.server}
		for _, args := range []string{"0", "1", "2"} {
			a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3303, 0, 5605), Arguments: args})
		}
		time.Sleep(time.Minute)
		require.Empty(t, s.executed)
		require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: firmwareVersion, Value: lwm2m.String("x")}}))
		got, _ := a.take()
		require.Equal(t, []lwm2m.Answer{{}, {}, {}}, got)
		require.Equal(t, []string{"0", "1", "2"}, s.executed)
	})
}

// TestOrder: requests wait behind one another when the device moves, and reach it in the order of
// the calls.
func TestOrder(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		s := &sensor{}
		config := func(c *lwm2m.ClientConfig) { c.Objects, c.Lifetime = append(c.Objects, s), time.Hour }
		w.device(config)
		a := &answers{server: w.server}
		hold, held := make(chan struct{}), false
		w.server.Before(func(lwm2m.Request) func(context.Context) error {
			if held {
				return nil
			}
			held = true
			return func(context.Context) error { <-hold; return nil }
		})
		for _, args := range []string{"0", "1", "2"} {
			a.call(lwm2m.Request{Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(3303, 0, 5605), Arguments: args})
		}
		synctest.Wait()
		w.device(config) // from another port, before anything was sent
		close(hold)
		got, _ := a.take()
		require.Equal(t, []lwm2m.Answer{{}, {}, {}}, got)
		require.Equal(t, []string{"0", "1", "2"}, s.executed)
	})
}

// TestFunctionsThatPanic: functions of the program panic, and the server goes on.
func TestFunctionsThatPanic(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.server.Watch(func(lwm2m.RegistrationEvent) { panic("watch") })
		f := &firmwareSink{}
		w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, sinkObject{f}) })
		w.server.Go(lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpObserve, Path: firmwareVersion,
			Values: func([]lwm2m.Entry) { panic("values") },
			Notice: func(lwm2m.Notice) { panic("notice") },
		}, func(lwm2m.Answer) { panic("done") })
		synctest.Wait()
		body := randomBytes(5000)
		require.NoError(t, errOf(w.server.Do(t.Context(), lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(body), Size: 5000,
			Progress: func(int64, int64) { panic("progress") },
		})))
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

// TestFunctionsThatBlock: functions that receive answers block, which they must not. Do still
// works.
func TestFunctionsThatBlock(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		release := make(chan struct{})
		var group sync.WaitGroup
		const n = 400
		group.Add(n)
		for range n {
			w.server.Go(lwm2m.Request{Endpoint: "nobody", Operation: lwm2m.OpRead, Path: firmwareVersion}, func(lwm2m.Answer) {
				<-release
				group.Done()
			})
		}
		synctest.Wait()
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
		close(release)
		group.Wait()
	})
}
