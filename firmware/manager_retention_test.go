package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// cancelled starts and cancels n updates of an endpoint, a second apart, and returns their ids.
func (w *world) cancelled(endpoint string, n int) (ids []string) {
	w.t.Helper()
	for range n {
		r := w.request()
		r.Endpoint, r.Key = endpoint, fmt.Sprint(endpoint, time.Now().Unix())
		u, err := w.mgr.Start(w.ctx, r)
		require.NoError(w.t, err)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(w.t, err)
		ids = append(ids, u.ID)
		time.Sleep(time.Second)
	}
	return ids
}

// left returns the ids of the updates of an endpoint, the oldest first.
func (w *world) left(endpoint string) (ids []string) {
	w.t.Helper()
	for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{Endpoint: endpoint, Oldest: true}) {
		require.NoError(w.t, err)
		ids = append(ids, u.ID)
	}
	return ids
}

// TestRetainPerEndpoint: the last updates of each endpoint stay, and the others go with their
// journals. Their keys stay taken for a day.
func TestRetainPerEndpoint(t *testing.T) {
	config := firmware.ManagerConfig{Retain: firmware.Retain{PerEndpoint: 3}}
	inWorld(t, config, func(w *world) {
		r := w.request()
		r.Endpoint, r.Key = "a", fmt.Sprint("a", time.Now().Unix())
		ids := w.cancelled("a", 8)
		others := w.cancelled("b", 2)
		time.Sleep(2 * time.Second)
		require.Equal(t, ids[5:], w.left("a"))
		require.Equal(t, others, w.left("b"))
		for range w.mgr.Journal(w.ctx, ids[0]) {
			t.Fatal("a deleted update has a journal")
		}
		span, err := w.db.Span(w.ctx)
		require.NoError(t, err)
		require.NotZero(t, span.Deleted)
		require.Greater(t, span.First, uint64(1))

		_, err = w.mgr.Start(w.ctx, r)
		var wrong *firmware.RequestError
		require.ErrorAs(t, err, &wrong, "invariant 11: a key outlives its update by a day")
		require.Equal(t, "key", wrong.Field)
		require.Contains(t, wrong.Problem, ids[0])
		time.Sleep(24 * time.Hour)
		again, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		require.Equal(t, append(slices.Clone(ids[5:]), again.ID), w.left("a"))
	})
}

// TestRetainAge: updates go a while after their end, also those that ended before the manager
// started, and beyond a limit that is lower now.
func TestRetainAge(t *testing.T) {
	config := firmware.ManagerConfig{Retain: firmware.Retain{PerEndpoint: -1, Age: 10 * 24 * time.Hour}}
	inWorld(t, config, func(w *world) {
		first := w.cancelled("a", 30)
		time.Sleep(9 * 24 * time.Hour)
		second := w.cancelled("a", 40)
		require.Len(t, w.left("a"), 70)
		time.Sleep(24*time.Hour + 2*time.Hour)
		require.Equal(t, second, w.left("a"), "of %d", len(first))

		w.config.Retain = firmware.Retain{PerEndpoint: 33}
		w.restart(nil, nil)
		time.Sleep(time.Minute)
		require.Equal(t, second[7:], w.left("a"))
	})
}

// TestKeep: no call and no limit deletes what the program needs, or anything while the program does
// not answer.
func TestKeep(t *testing.T) {
	var keep atomic.Pointer[func(ctx context.Context, kind store.Kind, id string) (string, error)]
	set := func(f func(ctx context.Context, kind store.Kind, id string) (string, error)) { keep.Store(&f) }
	config := firmware.ManagerConfig{
		Retain: firmware.Retain{PerEndpoint: 1},
		Keep: func(ctx context.Context, kind store.Kind, id string) (string, error) {
			return (*keep.Load())(ctx, kind, id)
		},
	}
	inWorld(t, config, func(w *world) {
		release := make(chan struct{})
		for _, bad := range []func(ctx context.Context, kind store.Kind, id string) (string, error){
			func(context.Context, store.Kind, string) (string, error) { return "", errors.New("no database") },
			func(context.Context, store.Kind, string) (string, error) { panic("no") },
			func(context.Context, store.Kind, string) (string, error) { <-release; return "", nil },
		} {
			set(bad)
			before := len(w.left("a"))
			ids := w.cancelled("a", 2)
			time.Sleep(time.Minute)
			require.Len(t, w.left("a"), before+2, "invariant 11: what the program keeps stays")
			require.Error(t, w.mgr.DeleteUpdate(w.ctx, ids[0]))
		}
		close(release)
		all := w.left("a")
		set(func(_ context.Context, kind store.Kind, id string) (string, error) {
			if kind != store.KindUpdate || id == all[2] {
				return "a rollout needs it", nil
			}
			return "", nil
		})
		last := w.cancelled("a", 1)[0]
		time.Sleep(time.Minute)
		require.Equal(t, []string{all[2], last}, w.left("a"), "invariant 11: what the program keeps stays")

		err := w.mgr.DeleteUpdate(w.ctx, all[2])
		require.ErrorIs(t, err, firmware.ErrKept)
		require.ErrorContains(t, err, "a rollout needs it")
		require.ErrorIs(t, w.mgr.DeleteDevice(w.ctx, "a"), firmware.ErrKept)
		require.ErrorIs(t, w.mgr.Images().Delete(w.ctx, w.request().Image), firmware.ErrKept)
		require.NoError(t, w.mgr.DeleteUpdate(w.ctx, last))
	})
}
