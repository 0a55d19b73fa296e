package firmware_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// acme is what a device says of itself.
var acme = lwm2m.DeviceObjectConfig{
	Manufacturer: "Acme", Model: "S1", HardwareVersion: "rev B", UTCOffset: "+01:00", Timezone: "Europe/Oslo",
}

// facts returns the facts that the store has of the device, without what differs between tests.
func (w *world) facts() store.Facts {
	w.t.Helper()
	d, err := w.mgr.Device(w.ctx, endpoint)
	require.NoError(w.t, err)
	require.Equal(w.t, d.Facts.Read.IsZero(), d.Facts.Basis == "")
	d.Facts.Read, d.Facts.Basis = time.Time{}, ""
	return d.Facts
}

// TestFacts reads the facts of devices that say more or less of themselves, in one request or more.
func TestFacts(t *testing.T) {
	all := store.Facts{Manufacturer: "Acme", Model: "S1", Hardware: "rev B", Offset: "+01:00", Zone: "Europe/Oslo"}
	says := func(values map[lwm2m.Path]lwm2m.Value) firmwaretest.Nonsense {
		return firmwaretest.Nonsense{Values: values}
	}
	model, hardware := lwm2m.NewPath(3, 0, 1), lwm2m.NewPath(3, 0, 18)
	for name, tt := range map[string]struct {
		device lwm2m.DeviceObjectConfig
		habits firmwaretest.Habits
		want   store.Facts
	}{
		"all":                       {acme, firmwaretest.Habits{NoComposite: true}, all},
		"all, composite":            {acme, firmwaretest.Habits{}, all},
		"only a model":              {lwm2m.DeviceObjectConfig{Model: "S1"}, firmwaretest.Habits{}, store.Facts{Model: "S1"}},
		"nothing":                   {lwm2m.DeviceObjectConfig{}, firmwaretest.Habits{}, store.Facts{}},
		"no instance, 4.05":         {acme, firmwaretest.Habits{NoComposite: true, NoDeviceRead: lwm2m.CodeMethodNotAllowed}, all},
		"no instance, 4.04":         {acme, firmwaretest.Habits{NoComposite: true, NoDeviceRead: lwm2m.CodeNotFound}, all},
		"no instance, 5.00":         {acme, firmwaretest.Habits{NoDeviceRead: lwm2m.CodeInternal}, all},
		"no instance, only a model": {lwm2m.DeviceObjectConfig{Model: "S1"}, firmwaretest.Habits{NoDeviceRead: lwm2m.CodeMethodNotAllowed}, store.Facts{Model: "S1"}},
		"no instance, nothing":      {lwm2m.DeviceObjectConfig{}, firmwaretest.Habits{NoDeviceRead: lwm2m.CodeMethodNotAllowed}, store.Facts{}},
		"a NUL at the end, and none": {acme, firmwaretest.Habits{NoComposite: true, Nonsense: says(map[lwm2m.Path]lwm2m.Value{
			model: lwm2m.String("S1\x00\x00"), hardware: lwm2m.String(""),
		})}, store.Facts{Manufacturer: "Acme", Model: "S1", Offset: "+01:00", Zone: "Europe/Oslo"}},
		"control characters": {acme, firmwaretest.Habits{NoComposite: true, Nonsense: says(map[lwm2m.Path]lwm2m.Value{
			model: lwm2m.String("S\n1\x1b[31m"),
		})}, store.Facts{Manufacturer: "Acme", Model: "S\uFFFD1\uFFFD[31m", Hardware: "rev B", Offset: "+01:00", Zone: "Europe/Oslo"}},
		"too long": {acme, firmwaretest.Habits{NoComposite: true, Nonsense: says(map[lwm2m.Path]lwm2m.Value{
			model: lwm2m.String(strings.Repeat("S", 5000)),
		})}, store.Facts{Manufacturer: "Acme", Model: strings.Repeat("S", 252) + "…", Hardware: "rev B", Offset: "+01:00", Zone: "Europe/Oslo"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
				w.device(firmwaretest.Script{Version: oldFW, Device: tt.device, Habits: tt.habits})
				time.Sleep(time.Minute)
				require.Equal(t, tt.want, w.facts())
				d, err := w.mgr.Device(w.ctx, endpoint)
				require.NoError(t, err)
				require.False(t, d.Facts.Read.IsZero())
				require.Equal(t, oldFW, d.Firmware.Version)
				require.NotNil(t, d.Firmware.State)
			})
		})
	}
}

// TestFactsOnce reads the facts once, and again when the version has changed, also by
// somebody else; a Register alone costs no message more.
func TestFactsOnce(t *testing.T) {
	for name, composite := range map[string]bool{"composite": true, "no composite": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
				d := w.device(firmwaretest.Script{
					Version: oldFW, Device: acme, Install: firmwaretest.Install{Version: newFW, BootTime: time.Second},
					Habits: firmwaretest.Habits{NoComposite: !composite},
				})
				time.Sleep(time.Minute)
				read := func() time.Time {
					d, err := w.mgr.Device(w.ctx, endpoint)
					require.NoError(t, err)
					return d.Facts.Read
				}
				first, n := read(), w.messages()
				register := func() int64 {
					before := n.Load()
					d.Restart(time.Second)
					time.Sleep(time.Minute)
					return n.Load() - before
				}
				plain := register()
				require.Equal(t, plain, register())
				require.Equal(t, first, read())

				u := w.update(w.request())
				require.Equal(t, firmware.OutcomeSucceeded, u.Outcome(), w.journal(u.ID))
				time.Sleep(time.Minute)
				require.Equal(t, first, read())
				require.Equal(t, plain, register(), "all of Object 3 is read in the place of its version")
				second := read()
				require.True(t, second.After(first), "the facts of another version are read")
				require.Equal(t, plain, register())
				require.Equal(t, second, read())

				// Someone else updates the device.
				d.SetInstall(firmwaretest.Install{Version: "9.9", Time: time.Second, BootTime: time.Second}) // after the answer to Execute
				require.NoError(t, w.srv.WriteValue(w.ctx, endpoint, lwm2m.NewPath(5, 0, 1), lwm2m.String("coap://192.0.2.1/x")))
				time.Sleep(time.Minute)
				require.NoError(t, w.srv.Execute(w.ctx, endpoint, lwm2m.NewPath(5, 0, 2), ""))
				time.Sleep(time.Minute)
				third := read()
				require.True(t, third.After(second), "the facts of another version are read")
				require.Equal(t, plain, register())
				require.Equal(t, third, read())
			})
		})
	}
}

// TestFactsAfterAnUpdate reads the facts of a device whose first Register found an update waiting.
func TestFactsAfterAnUpdate(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
		u, err := w.mgr.Start(w.ctx, w.request())
		require.NoError(t, err)
		w.device(firmwaretest.Script{Version: oldFW, Device: acme, Install: firmwaretest.Install{Version: newFW}})
		w.wait(u.ID, time.Hour)
		time.Sleep(time.Minute)
		require.Equal(t, "S1", w.facts().Model)
	})
}

// TestCompatible starts updates to images that are made for some devices only: known devices are
// refused at once, others are read first, and nothing is written to one that does not fit.
func TestCompatible(t *testing.T) {
	made := func(w *world, c store.Compatible) string {
		img, err := w.images.Add(w.ctx, store.Image{Name: "made", Version: newFW, Compatible: c}, bytes.NewReader(make([]byte, 4000)))
		require.NoError(w.t, err)
		return img.ID
	}
	for name, tt := range map[string]struct {
		device     lwm2m.DeviceObjectConfig
		compatible store.Compatible
		why        string
	}{
		"all":              {acme, store.Compatible{Manufacturer: "Acme", Model: "S1", Hardware: "rev B"}, ""},
		"model":            {acme, store.Compatible{Model: "S1"}, ""},
		"another model":    {acme, store.Compatible{Model: "S2"}, `the image is for model "S2", and the device reports model "S1"`},
		"another case":     {acme, store.Compatible{Manufacturer: "ACME", Model: "S1"}, `the image is for manufacturer "ACME", and the device reports manufacturer "Acme"`},
		"says no hardware": {lwm2m.DeviceObjectConfig{Model: "S1"}, store.Compatible{Model: "S1", Hardware: "rev B"}, `the image is for hardware "rev B", and the device does not report its hardware`},
		"asks for nothing": {lwm2m.DeviceObjectConfig{}, store.Compatible{}, ""},
		"says nothing":     {lwm2m.DeviceObjectConfig{}, store.Compatible{Model: "S1"}, `the image is for model "S1", and the device does not report its model`},
	} {
		for _, inventory := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				inWorld(t, firmware.ManagerConfig{Inventory: inventory}, func(w *world) {
					var wrote bool
					stop := w.srv.Before(func(r lwm2m.Request) func(context.Context) error {
						wrote = true
						return nil
					})
					defer stop()
					script := firmwaretest.Script{
						Version: oldFW, Device: tt.device, Install: firmwaretest.Install{Version: newFW},
						Habits: firmwaretest.Habits{NoComposite: true},
					}
					w.device(script)
					time.Sleep(time.Minute)
					r := w.request()
					r.Image, r.Key = made(w, tt.compatible), "key"
					u, err := w.mgr.Start(w.ctx, r)
					if tt.why != "" && inventory {
						var wrong *firmware.RequestError
						require.ErrorAs(t, err, &wrong)
						require.Equal(t, firmware.RequestError{Field: "image", Problem: "is not made for the device: " + tt.why}, *wrong)
						d, err := w.db.Device(w.ctx, endpoint)
						require.NoError(t, err)
						img, err := w.db.Image(w.ctx, r.Image)
						require.NoError(t, err)
						why, known := firmware.Incompatible(img, &d)
						require.True(t, known)
						require.Equal(t, tt.why, why)
					} else {
						require.NoError(t, err)
						u = w.wait(u.ID, time.Hour)
						if tt.why != "" {
							require.Equal(t, firmware.OutcomeFailed, u.Outcome(), "nothing is written to a device that does not fit")
							require.Equal(t, firmware.ReasonIncompatible, u.Reason())
							require.Contains(t, w.journal(u.ID), tt.why)
							time.Sleep(time.Minute)
							require.Equal(t, tt.device.Model, w.facts().Model, "what was read is stored")
							r.Key = "another key"
							_, err = w.mgr.Start(w.ctx, r)
							require.ErrorAs(t, err, new(*firmware.RequestError))
							r.Key = "key"
							again, err := w.mgr.Start(w.ctx, r)
							require.NoError(t, err, "a repeated request gets its update")
							require.Equal(t, u.ID, again.ID)
						} else {
							require.Equal(t, firmware.OutcomeSucceeded, u.Outcome(), w.journal(u.ID))
						}
					}
					require.Equal(t, tt.why == "", wrote, "nothing is written to a device that does not fit")
					if tt.why != "" {
						r.Force, r.Key = true, ""
						u := w.update(r)
						require.Equal(t, firmware.OutcomeSucceeded, u.Outcome(), w.journal(u.ID))
					}
				})
			})
		}
	}
}
