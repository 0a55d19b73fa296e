package firmware_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// TestLines: a caller of Lines gets the lines of each update in their order, and those that come
// before it ranges over them, but none of a commit that the store refused.
func TestLines(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		lines := w.mgr.Lines(ctx)
		w.cancelled("a", 3)
		_, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		again := w.request()
		again.Key = "again"
		_, err = w.mgr.Start(w.ctx, again)
		require.ErrorIs(t, err, store.ErrActive)
		got := map[string][]string{}
		go func() {
			for commit, err := range lines {
				require.NoError(t, err)
				for _, line := range commit {
					got[line.Update] = append(got[line.Update], line.Name)
				}
			}
		}()
		synctest.Wait()
		want := map[string][]string{}
		for line, err := range w.db.Events(w.ctx, store.EventQuery{}) {
			require.NoError(t, err)
			want[line.Update] = append(want[line.Update], line.Name)
		}
		require.Len(t, want, 4)
		require.Equal(t, want, got)
	})
}
