package kv

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// TestEndIndex: each update that has ended is once in the index by end, however it ended and
// whatever changes, and a page examines no more entries than it may.
func TestEndIndex(t *testing.T) {
	var base shaky
	db, err := New(&base, false)
	require.NoError(t, err)
	commit := func(changes ...store.Change) {
		t.Helper()
		_, err := db.Commit(t.Context(), changes...)
		require.NoError(t, err)
	}
	entries := func() (n int) {
		for range base.tables[byEnd].Ascend(nil) {
			n++
		}
		return n
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	commit(store.CreateImage{Image: store.Image{ID: "i", Name: "n", Version: "1"}})
	update := func(n int) store.Update {
		u := store.Update{ID: fmt.Sprint("u", n), Endpoint: fmt.Sprint("ep", n), Image: "i", Machine: fsm.NewUpdate(fsm.Plan{Target: "1"}, at), Created: at, Changed: at}
		commit(store.CreateUpdate{Update: u})
		u.Revision = 1
		return u
	}
	end := func(u store.Update, outcome fsm.Outcome, at time.Time) store.Update {
		u.Machine.Phase, u.Machine.Outcome, u.Machine.Ended = fsm.PhaseEnded, outcome, at
		commit(store.ReplaceUpdate{Update: u})
		u.Revision++
		return u
	}
	u := update(1)
	require.Zero(t, entries(), "it is active")
	u = end(u, fsm.OutcomeFailed, at)
	u = end(u, fsm.OutcomeFailed, at)
	u = end(u, fsm.OutcomeFailed, at.Add(time.Hour))
	u = end(u, fsm.OutcomeSucceeded, at.Add(time.Hour))
	end(u, fsm.OutcomeSucceeded, time.Time{})
	require.Equal(t, 1, entries())
	end(update(2), fsm.OutcomeFailed, at.Add(-100*365*24*time.Hour))
	require.Equal(t, 2, entries())
	commit(store.DeleteUpdate{ID: "u1"})
	require.Equal(t, 1, entries())
	base.tables[updates].Put([]byte("u2"), []byte("garbage"))
	for u, err := range db.Updates(t.Context(), store.UpdateQuery{ByEnd: true, Outcome: fsm.OutcomeFailed}) {
		require.ErrorIs(t, err, store.ErrDamaged)
		require.Equal(t, at.Add(-100*365*24*time.Hour), u.End(), "for the next page")
	}
	commit(store.RemoveDamaged{Kind: store.KindUpdate, Key: "u2"})
	require.Zero(t, entries())
}
