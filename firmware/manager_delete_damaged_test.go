package firmware_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// damageUpdate makes the record of an update unreadable. First it commits so much that the store
// empties its log, whose records come before those of the tables.
func (w *world) damageUpdate(file *bbolt.DB, u firmware.Update) {
	w.t.Helper()
	lines := make([]store.Event, store.JournalTail)
	for i := range lines {
		lines[i] = store.Event{Update: u.ID, Endpoint: u.Endpoint, Time: u.Created, Name: "x", Detail: strings.Repeat("x", store.MaxDetail)}
	}
	for range 40 {
		_, err := w.db.Commit(w.ctx, store.AppendEvents{Events: lines})
		require.NoError(w.t, err)
	}
	require.NoError(w.t, file.Update(func(tx *bbolt.Tx) error {
		updates := tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket([]byte("updates"))
		require.NotNil(w.t, updates.Get([]byte(u.ID)), "it is in the table")
		return updates.Put([]byte(u.ID), []byte("\x02{\"id"))
	}))
}

// TestRemoveDamaged makes the record of a running update unreadable.
func TestRemoveDamaged(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	defer file.Close()
	db, err := bolt.New(file, bolt.Config{})
	require.NoError(t, err)
	defer db.Close()
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.stop()
		w.db = db
		_, err := db.Commit(w.ctx, store.CreateImage{Image: w.image})
		require.NoError(t, err)
		w.start(db)
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		synctest.Wait() // for the first step
		require.ErrorIs(t, w.mgr.RemoveDamaged(w.ctx, u.ID), store.ErrNotDamaged)
		require.ErrorIs(t, w.mgr.RemoveDamaged(w.ctx, "nothing"), store.ErrNotFound)

		w.damageUpdate(file, u)
		_, err = w.mgr.Start(w.ctx, w.request())
		require.ErrorIs(t, err, store.ErrActive)
		require.NoError(t, w.mgr.RemoveDamaged(w.ctx, u.ID))
		_, err = w.mgr.Get(w.ctx, u.ID)
		require.ErrorIs(t, err, store.ErrNotFound, "nothing drives it")
		require.ErrorIs(t, w.mgr.RemoveDamaged(w.ctx, u.ID), store.ErrNotFound)

		u, err = w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		u, err = w.mgr.Cancel(w.ctx, u.ID)
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeCancelled, u.Machine.Outcome)
	})
}

// TestEndThatIsNotStored cancels an update whose record was damaged meanwhile: the outcome is not
// stored, and no hook reports it.
func TestEndThatIsNotStored(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, &bbolt.Options{NoSync: true})
	require.NoError(t, err)
	defer file.Close()
	db, err := bolt.New(file, bolt.Config{})
	require.NoError(t, err)
	defer db.Close()
	var ended atomic.Int32
	hooks := firmware.Hooks{Ended: func(context.Context, firmware.Update) { ended.Add(1) }}
	inWorld(t, firmware.ManagerConfig{Hooks: hooks}, func(w *world) {
		w.stop()
		w.db = db
		_, err := db.Commit(w.ctx, store.CreateImage{Image: w.image})
		require.NoError(t, err)
		w.start(db)
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		synctest.Wait() // for the first step
		w.damageUpdate(file, u)
		_, err = w.mgr.Cancel(w.ctx, u.ID)
		require.Error(t, err)
		<-time.After(time.Minute)
		require.Zero(t, ended.Load())
	})
}
