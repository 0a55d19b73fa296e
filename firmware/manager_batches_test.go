package firmware_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
)

// TestEventBatches: all followers get the same batches, of which there are few however many events
// come, and the events are those of Events.
func TestEventBatches(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		ctx, cancel := context.WithCancel(w.ctx)
		const followers = 3
		batches := make([][][]firmware.Event, followers)
		done := make(chan error, followers)
		for i := range followers {
			go func() {
				var failed error
				time.Sleep(time.Duration(i) * 37 * time.Millisecond) // they do not wake at the same time by chance
				for events, err := range w.mgr.EventBatches(ctx, 0) {
					batches[i], failed = append(batches[i], events), err
				}
				done <- failed
			}()
		}
		time.Sleep(time.Second)
		for range 20 {
			w.cancelled("a", 1)
		}
		w.cancelled("b", 5)
		time.Sleep(time.Minute)
		cancel()
		for range followers {
			require.NoError(t, <-done)
		}
		var all []firmware.Event
		for n, events := range batches[0] {
			all = append(all, events...)
			require.Same(t, &events[0], &batches[1][n][0], "batch %d is shared", n)
		}
		require.Equal(t, batches[0], batches[2])
		ctx, cancel = context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		n := 0
		for event, err := range w.mgr.Events(ctx, 0) {
			require.NoError(t, err)
			require.Equal(t, all[n].Seq, event.Seq)
			n++
		}
		require.Len(t, all, n)
		require.LessOrEqual(t, len(batches[0]), 2*25, "%d events", n)

		last := all[n-1].Seq
		for events, err := range w.mgr.EventBatches(w.ctx, last+1) {
			require.Empty(t, events)
			require.ErrorIs(t, err, firmware.ErrPosition)
		}
		ctx, cancel = context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		for range w.mgr.Events(ctx, last) {
			t.Fatal("there is no event after the last one")
		}
	})
}
