package firmware

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestSteps: at most 512 functions run at the same time, each once and in its order.
func TestSteps(t *testing.T) {
	m := idleManager(t, ManagerConfig{})
	require.False(t, m.enlist(func(context.Context) {}), "nothing runs")
	synctest.Test(t, func(t *testing.T) {
		require.NoError(t, m.begin(t.Context()))
		gate := make(chan struct{})
		begun := make(chan int, 2000)
		for n := range 1500 {
			require.True(t, m.enlist(func(context.Context) {
				begun <- n
				<-gate
			}))
		}
		synctest.Wait()
		require.Len(t, begun, 512)
		close(gate)
		synctest.Wait()
		require.Len(t, begun, 1500)
		var order []int
		for range 1500 {
			order = append(order, <-begun)
		}
		slices.Sort(order)
		for n, got := range order {
			require.Equal(t, n, got)
		}
		require.True(t, m.steps.Idle())
		m.end(func() {})
	})
}

// TestActionsOverlap: an action gets its answer, and the update begins another action before all of
// the first one is cleared away. The hooks hear of the end of the first before the second begins.
func TestActionsOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		note := func(what string, kind fsm.ActionKind) { calls = append(calls, what+" "+string(kind)) }
		m := idleManager(t, ManagerConfig{Hooks: Hooks{
			ActionStart: func(_ context.Context, _ Update, kind ActionKind) context.Context {
				note("start", kind)
				return nil
			},
			ActionEnd: func(_ context.Context, _ Update, kind ActionKind, _ error) { note("end", kind) },
		}})
		u := &Update{ID: "u"}
		first := &action{m: m, hooks: m.actionHooks(t.Context(), u, ActionRead)}
		clears := make(chan struct{})
		first.atEnd(func() { <-clears })
		go first.close(nil)
		synctest.Wait()
		first.giveUp() // returns at once, since it has ended
		second := &action{m: m, hooks: m.actionHooks(t.Context(), u, ActionCancel)}
		close(clears)
		synctest.Wait()
		second.giveUp()
		synctest.Wait()
		require.Equal(t, []string{"start read", "end read", "start cancel", "end cancel"}, calls)
	})
}

// TestProgressIsSpaced: progress is reported at most four times in a second, except the last byte,
// which is reported at once, and once.
func TestProgressIsSpaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &Manager{clock: newClock()}
		d := newRun(t.Context(), m, &Update{ID: "u", Machine: fsm.NewUpdate(fsm.Plan{Target: "1", Size: 1000}, time.Now())})
		shown := func() (bytes int64) {
			for _, l := range d.inbox {
				require.Equal(t, fsm.ObserveProgress, l.Kind)
				bytes = l.Bytes
			}
			d.inbox = nil
			return bytes
		}
		for _, step := range []struct {
			after       time.Duration
			done, shows int64
		}{
			{0, 10, 10}, {0, 20, 0}, {249 * time.Millisecond, 30, 0}, {time.Millisecond, 40, 40}, {time.Millisecond, 50, 0},
			{time.Millisecond, 999, 0}, {time.Millisecond, 1000, 1000},
		} {
			<-time.After(step.after)
			d.progress(step.done)
			require.Equal(t, step.shows, shown(), "%d", step.done)
		}
		d.u.Machine.Bytes = 1000
		<-time.After(time.Millisecond)
		d.progress(1000)
		require.Zero(t, shown(), "it was shown")
	})
}

// TestTouches lists the requests that change a Firmware Update object, of the whole device or of
// components, wherever the request names it.
func TestTouches(t *testing.T) {
	for _, tc := range []struct {
		request lwm2m.Request
		touches bool
	}{
		{lwm2m.Request{Path: lwm2m.NewPath(5)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(5, 0, 2)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(33629, 1, 2)}, true},
		{lwm2m.Request{Path: lwm2m.NewPath(3, 0, 4)}, false},
		{lwm2m.Request{Path: lwm2m.NewPath(0, 5)}, false},
		{lwm2m.Request{}, false},
		{lwm2m.Request{Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 4)}, {Path: lwm2m.NewPath(5, 0, 1)}}}, true},
		{lwm2m.Request{Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 4)}}}, false},
	} {
		require.Equal(t, tc.touches, touchesFirmware(tc.request), "%v", tc.request)
	}
}

// TestFactsAfterTheLastSave: Run ends while another caller changes the device of an update. The
// caller's request waits for the facts of the run until the last save has ended, whether the run
// has something to save or not, and no longer.
func TestFactsAfterTheLastSave(t *testing.T) {
	for name, soft := range map[string]bool{"soft steps": true, "nothing": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := idleManager(t, ManagerConfig{})
				r := newRun(t.Context(), m, &Update{ID: "u", Endpoint: "d", Machine: fsm.NewUpdate(fsm.Plan{Target: "1"}, time.Now())})
				f, err := r.lockFacts(t.Context())
				require.NoError(t, err)
				f.read, r.soft = true, soft
				f.unlock()
				m.byEndpoint["d"] = r
				stores := m.before(lwm2m.Request{Endpoint: "d", Operation: lwm2m.OpWrite, Path: pathPackageURI})
				require.NotNil(t, stores)
				m.saveLast(map[string]*run{"u": r})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				require.NoError(t, stores(ctx))
			})
		})
	}
}
