package firmware_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// byHand are requests of an operator that change a Firmware Update object.
func byHand() map[string]lwm2m.Request {
	uri := []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("")}}
	return map[string]lwm2m.Request{
		"write":            {Operation: lwm2m.OpWrite, Path: lwm2m.NewPath(5, 0, 1), Entries: uri},
		"partial write":    {Operation: lwm2m.OpWritePartial, Path: lwm2m.NewPath(5, 0), Entries: uri},
		"composite write":  {Operation: lwm2m.OpWriteComposite, Entries: append([]lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 14), Value: lwm2m.String("Z")}}, uri...)},
		"create":           {Operation: lwm2m.OpCreate, Path: lwm2m.NewPath(5), Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(5, 1, 1), Value: lwm2m.String("")}}},
		"delete":           {Operation: lwm2m.OpDelete, Path: lwm2m.NewPath(5, 0)},
		"execute":          {Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(5, 0, 2)},
		"attributes":       {Operation: lwm2m.OpWriteAttributes, Path: lwm2m.NewPath(5, 0, 3)},
		"advanced execute": {Operation: lwm2m.OpExecute, Path: lwm2m.NewPath(33629, 0, 2)},
	}
}

// TestDoDuringAnUpdate: while an update is active no request of an operator changes its object,
// whether the manager runs or not; other requests reach the device.
func TestDoDuringAnUpdate(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Owns: func(e string) bool { return e != "other" }}, func(w *world) {
		d := w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		w.deviceNamed("other", "10.0.1.2", firmwaretest.Script{Version: oldFW})
		time.Sleep(time.Minute)
		r := w.request()
		r.Hold = firmware.Hold{Holder: "test"}
		u, err := w.mgr.Start(w.ctx, r)
		require.NoError(t, err)
		w.waits(u.ID)
		refused := func(mgr *firmware.Manager) {
			t.Helper()
			log := d.Log()
			for name, r := range byHand() {
				r.Endpoint = endpoint
				a, err := mgr.Do(w.ctx, r)
				active := new(store.UpdateError)
				require.ErrorAs(t, err, &active, "invariant 16: refused during an update: %s", name)
				require.ErrorIs(t, err, store.ErrActive)
				require.Equal(t, u.ID, active.ID)
				require.Equal(t, err, a.Err)
			}
			require.Equal(t, log, d.Log())
		}
		refused(w.mgr)
		other := w.manager(w.db) // does not run
		refused(other)

		a, err := w.mgr.Do(w.ctx, lwm2m.Request{Endpoint: endpoint, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(5, 0, 3)})
		require.NoError(t, err)
		require.Equal(t, []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(2)}}, a.Entries)
		_, err = w.mgr.Do(w.ctx, lwm2m.Request{
			Endpoint: endpoint, Operation: lwm2m.OpWrite, Path: lwm2m.NewPath(3, 0, 99),
			Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(3, 0, 99), Value: lwm2m.String("Z")}},
		})
		require.ErrorIs(t, err, lwm2m.ErrNotFound, "the device answers")
		for _, endpoint := range []string{"other", "never seen"} {
			_, err = w.mgr.Do(w.ctx, lwm2m.Request{Endpoint: endpoint, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0)})
			require.ErrorIs(t, err, store.ErrNotFound)
			require.NotErrorIs(t, err, lwm2m.ErrNotFound)
		}
		model, ok := w.mgr.Model(endpoint, 5)
		require.True(t, ok)
		require.Equal(t, "Firmware Update", model.Name)
		_, ok = w.mgr.Model("other", 5)
		require.False(t, ok)

		_, err = w.mgr.Release(w.ctx, u.ID, "test")
		require.NoError(t, err)
		require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, time.Hour).Machine.Outcome)
		_, err = w.mgr.Do(w.ctx, lwm2m.Request{
			Endpoint: endpoint, Operation: lwm2m.OpWrite, Path: lwm2m.NewPath(5, 0, 1),
			Entries: []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 1), Value: lwm2m.String("")}},
		})
		require.NoError(t, err, "the object is free again")
	})
}

// TestDoLosesTheRace: an update starts while the request of an operator waits for a device that
// sleeps. The request ends when its turn comes, and the device gets only what the update sends.
func TestDoLosesTheRace(t *testing.T) {
	for name, r := range byHand() {
		if name == "attributes" || name == "advanced execute" { // the device has neither
			continue
		}
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				d := firmwaretest.NewDevice(lwm2m.ClientConfig{
					Endpoint: endpoint, Server: "coap://" + serverAddress, Queue: true, Lifetime: 20 * time.Minute,
					Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.1.1:0") },
				}, firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
				w.devices.Go(func() { _ = d.Run(w.ctx) })
				time.Sleep(5 * time.Minute) // it sleeps
				looked := w.guardHolds()
				r.Endpoint = endpoint
				done := make(chan error, 1)
				go func() {
					_, err := w.mgr.Do(w.ctx, r)
					done <- err
				}()
				time.Sleep(time.Second)
				held := w.request()
				held.Hold = firmware.Hold{Holder: "test"}
				u, err := w.mgr.Start(w.ctx, held)
				require.NoError(t, err)
				require.Empty(t, done)
				w.waits(u.ID)
				err = <-done
				require.ErrorIs(t, err, store.ErrActive, "invariant 16: an update started meanwhile")
				require.NotErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
				require.Positive(t, looked.Load())
				require.NotContains(t, d.Log(), "execute")
				require.NotContains(t, d.Log(), "reset")
				_, err = w.mgr.Release(w.ctx, u.ID, "test")
				require.NoError(t, err)
				require.Equal(t, fsm.OutcomeSucceeded, w.wait(u.ID, 24*time.Hour).Machine.Outcome)
			})
		})
	}
}
