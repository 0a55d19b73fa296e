package firmware_test

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// damagedStore yields a damaged record at the start of each of its sequences.
type damagedStore struct{ store.Store }

func damagedFirst[T any](blank T, kind store.Kind, key string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if yield(blank, &store.DamagedError{Kind: kind, Key: key, Err: errors.New("bits have flipped")}) {
			seq(yield)
		}
	}
}

func (s damagedStore) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	return damagedFirst(store.Update{ID: "0"}, store.KindUpdate, "0", s.Store.Updates(ctx, q))
}

func (s damagedStore) Devices(ctx context.Context, q store.DeviceQuery) iter.Seq2[store.Device, error] {
	return damagedFirst(store.Device{Endpoint: "0"}, store.KindDevice, "0", s.Store.Devices(ctx, q))
}

func (s damagedStore) Events(ctx context.Context, q store.EventQuery) iter.Seq2[store.Event, error] {
	return damagedFirst(store.Event{Seq: q.After}, store.KindEvent, "0", s.Store.Events(ctx, q))
}

// TestDamagedRecords resumes an update, and reads a device, although some records cannot be read.
func TestDamagedRecords(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		w.stop()
		w.start(damagedStore{w.db})
		ctx, cancel := context.WithTimeout(w.ctx, time.Hour)
		defer cancel()
		outcome := fsm.OutcomeNone
		for e, err := range w.mgr.Events(ctx, u.Since) {
			require.NoError(t, err)
			if outcome = e.Outcome; outcome != fsm.OutcomeNone {
				break
			}
		}
		require.Equal(t, fsm.OutcomeSucceeded, outcome)
		var ids []string
		for u, err := range w.mgr.List(w.ctx, store.UpdateQuery{}) {
			require.Equal(t, u.ID == "0", errors.Is(err, store.ErrDamaged), "%v", err)
			ids = append(ids, u.ID)
		}
		require.Equal(t, []string{"0", u.ID}, ids)
	})
}
