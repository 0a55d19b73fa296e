package firmware_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestWait: callers of Wait get the update when it ends, however it ends, and an error when
// something prevents that.
func TestWait(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		time.Sleep(time.Second)
		_, err := w.mgr.Wait(w.ctx, "none")
		require.ErrorIs(t, err, store.ErrNotFound)

		device := w.device(good())
		u := w.begin(w.request())
		var waiting sync.WaitGroup
		var ended sync.Map
		for i := range 1000 {
			waiting.Go(func() {
				got, err := w.mgr.Wait(w.ctx, u.ID)
				ended.Store(i, errors.Join(err, wrong(got.Machine.Outcome != fsm.OutcomeSucceeded, "outcome")))
			})
		}
		synctest.Wait()
		require.Equal(t, 1, w.mgr.Awaited(), "updates that are waited for")
		waiting.Wait()
		for i := range 1000 {
			err, _ := ended.Load(i)
			require.Nil(t, err)
		}
		require.Zero(t, w.mgr.Awaited())
		require.Equal(t, 1, count(device.Log(), "execute"))
		again, err := w.mgr.Wait(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeSucceeded, again.Machine.Outcome)

		r := w.request()
		r.Endpoint = "elsewhere"
		u = w.begin(r)
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		got, err := w.mgr.Wait(ctx, u.ID)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, u.ID, got.ID)
		require.Zero(t, w.mgr.Awaited())

		results := make(chan error, 1)
		wait := func() {
			_, err := w.mgr.Wait(w.ctx, u.ID)
			results <- err
		}
		go wait()
		synctest.Wait()
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, <-results)

		u = w.begin(r)
		go wait()
		synctest.Wait()
		w.stop()
		synctest.Wait()
		require.ErrorIs(t, <-results, firmware.ErrStopped)
		go wait()
		synctest.Wait()
		require.ErrorIs(t, <-results, firmware.ErrStopped, "no Run runs")
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		_, err = w.mgr.Wait(w.ctx, u.ID)
		require.NoError(t, err)

		// Before the first Run a caller waits for it; another process ends the update, or deletes
		// it.
		mgr, err := firmware.NewManager(w.srv, w.db, w.images, w.config)
		require.NoError(t, err)
		r.Endpoint = "third"
		u, err = mgr.Start(w.ctx, r)
		require.NoError(t, err)
		go func() {
			_, err := mgr.Wait(w.ctx, u.ID)
			results <- err
		}()
		synctest.Wait()
		time.Sleep(time.Hour)
		require.Empty(t, results)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		require.NoError(t, <-results)

		u, err = mgr.Start(w.ctx, r)
		require.NoError(t, err)
		go func() {
			_, err := mgr.Wait(w.ctx, u.ID)
			results <- err
		}()
		synctest.Wait()
		now, err := w.db.Update(w.ctx, u.ID)
		require.NoError(t, err)
		now.Machine.Phase, now.Machine.Outcome, now.Machine.Result = fsm.PhaseEnded, fsm.OutcomeCancelled, fsm.ResultCancelled
		_, err = w.db.Commit(w.ctx, store.ReplaceUpdate{Update: now}, store.DeleteUpdate{ID: u.ID})
		require.NoError(t, err)
		time.Sleep(31 * time.Second)
		synctest.Wait()
		require.ErrorIs(t, <-results, store.ErrNotFound)
	})
}

func wrong(is bool, what string) error {
	if is {
		return errors.New("wrong " + what)
	}
	return nil
}

// TestDeleteUpdate: deleting an ended update also removes its journal and its place in the events;
// an active one stays.
func TestDeleteUpdate(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		time.Sleep(time.Second)
		w.device(good())
		r := w.request()
		r.Key, r.Labels = "key", map[string]string{"site": "north"}
		u := w.begin(r)
		require.Equal(t, r.Labels, u.Labels)
		var active *store.UpdateError
		require.ErrorAs(t, w.mgr.DeleteUpdate(w.ctx, u.ID), &active)
		require.Equal(t, u.ID, active.ID)
		w.wait(u.ID, time.Hour)
		list := func(labels map[string]string) (ids []string) {
			for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{Labels: labels}) {
				require.NoError(t, err)
				ids = append(ids, u.ID)
			}
			return ids
		}
		require.Equal(t, []string{u.ID}, list(r.Labels))
		require.Empty(t, list(map[string]string{"site": "south"}))
		events := func() (n int) {
			ctx, cancel := context.WithTimeout(w.ctx, time.Second)
			defer cancel()
			for e, err := range w.mgr.Events(ctx, 0) {
				require.NoError(t, err)
				if e.Update == u.ID {
					n++
				}
			}
			return n
		}
		require.Positive(t, events())
		require.NoError(t, w.mgr.DeleteUpdate(w.ctx, u.ID))
		_, err := w.mgr.Get(w.ctx, u.ID)
		require.ErrorIs(t, err, store.ErrNotFound)
		require.ErrorIs(t, w.mgr.DeleteUpdate(w.ctx, u.ID), store.ErrNotFound)
		require.Zero(t, events())
		require.Empty(t, w.journal(u.ID))

		_, err = w.mgr.Start(w.ctx, r)
		var wrong *firmware.RequestError
		require.ErrorAs(t, err, &wrong, "the key stays taken")
		time.Sleep(24 * time.Hour)

		// ActionCancel ends although the update is deleted.
		again := w.begin(r)
		require.NotEqual(t, u.ID, again.ID, "the key is free")
		_, err = w.mgr.Cancel(w.ctx, again.ID)
		require.NoError(t, err)
		require.NoError(t, w.mgr.DeleteUpdate(w.ctx, again.ID))
		time.Sleep(5 * time.Minute)
		_, err = w.mgr.Get(w.ctx, again.ID)
		require.ErrorIs(t, err, store.ErrNotFound)

		var bad *firmware.RequestError
		r.Labels = map[string]string{"a b": ""}
		_, err = w.mgr.Start(w.ctx, r)
		require.ErrorAs(t, err, &bad)
		require.Equal(t, "labels", bad.Field)
		require.Equal(t, `are not valid: name of label "a b" has a character other than letters, digits and -_./`, bad.Problem)
	})
}
