package firmware_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store"
)

func TestCompareVersions(t *testing.T) {
	// Each is lower than those after it; those in one list are equal.
	order := [][]string{
		{"1.0.0-alpha", "v1.0.0-alpha"}, {"1.0.0-alpha.1"}, {"1.0.0-beta.2"}, {"1.0.0-beta.11"}, {"1.0.0", "1", "v1.0", "1.0.0+build.7"},
		{"1.2.0"}, {"1.10.0", "v1.10"}, {"2.0.0-rc.1"}, {"2.0.0"}, {"10"},
	}
	for i, as := range order {
		for j, bs := range order {
			for _, a := range as {
				for _, b := range bs {
					n, ok := firmware.CompareVersions(a, b)
					require.True(t, ok, "%s and %s", a, b)
					require.Equal(t, i < j, n < 0, "%s < %s", a, b)
					require.Equal(t, i > j, n > 0, "%s > %s", a, b)
				}
			}
		}
	}
	for _, odd := range []string{"", "v", "1.0.0.4", "1.0_rc", "01.0", "V1", "vv1", "1.", "release 2", "2026-11-30", "\xff"} {
		for _, pair := range [][2]string{{odd, "1.0"}, {"1.0", odd}, {odd, odd}} {
			_, ok := firmware.CompareVersions(pair[0], pair[1])
			require.False(t, ok, "%q", pair)
		}
	}
}

// fleet stores devices with labels, facts and versions.
func fleet(w *world) {
	w.t.Helper()
	for n, version := range []string{"1.0", "1.9.0", "1.10.0", "2.0", "odd", "", "2.0.0-rc.1", "1.0"} {
		ep := fmt.Sprint("d", n)
		r := store.RegistrationRecord{}
		if n == 7 {
			r.Ended = w.image.Created
		}
		_, err := w.db.Commit(w.ctx,
			store.PutRegistration{Endpoint: ep, Registration: r},
			store.PutFirmware{Endpoint: ep, Firmware: store.Firmware{Version: version}},
			store.PutFacts{Endpoint: ep, Facts: store.Facts{Manufacturer: "Acme", Model: fmt.Sprint("S", n%2), Hardware: "B"}},
			store.PutLabels{Endpoint: ep, Labels: map[string]string{"site": []string{"oslo", "bergen"}[n/4]}})
		require.NoError(w.t, err)
	}
}

func TestSelect(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		fleet(w)
		for _, test := range []struct {
			s    firmware.Selector
			want []string
		}{
			{firmware.Selector{}, []string{"d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7"}},
			{firmware.Selector{Labels: map[string]string{"site": "oslo"}}, []string{"d0", "d1", "d2", "d3"}},
			{firmware.Selector{Labels: map[string]string{"site": "oslo"}, Model: "S1"}, []string{"d1", "d3"}},
			{firmware.Selector{Version: "1.0"}, []string{"d0", "d7"}},
			{firmware.Selector{Version: "1.0", Registered: true}, []string{"d0"}},
			{firmware.Selector{Version: "1.0.0"}, nil}, // a version is a text
			{firmware.Selector{VersionBelow: "v2"}, []string{"d0", "d1", "d2", "d6", "d7"}},
			{firmware.Selector{VersionBelow: "1.10", Manufacturer: "Acme", Hardware: "B"}, []string{"d0", "d1", "d7"}},
			{firmware.Selector{VersionBelow: "0.1"}, nil},
			{firmware.Selector{Contains: "D7"}, []string{"d7"}},
			{firmware.Selector{Contains: "1", VersionBelow: "2.0"}, []string{"d1"}},
			{firmware.Selector{Version: "1.9.0", VersionBelow: "2.0"}, []string{"d1"}},
			{firmware.Selector{Version: "2.0", VersionBelow: "2.0"}, nil},
			{firmware.Selector{Version: "odd", VersionBelow: "2.0"}, nil},
			{firmware.Selector{Manufacturer: "acme"}, nil},
		} {
			var got []string
			for d, err := range w.mgr.Select(w.ctx, test.s, "", 0) {
				require.NoError(t, err)
				require.True(t, test.s.Match(&d.Device), "%+v and %s", test.s, d.Endpoint)
				got = append(got, d.Endpoint)
			}
			require.Equal(t, test.want, got, "%+v", test.s)
			for d, err := range w.mgr.Devices(w.ctx, store.DeviceQuery{}) {
				require.NoError(t, err)
				require.Equal(t, slices.Contains(got, d.Endpoint), test.s.Match(&d.Device), "%+v and %s", test.s, d.Endpoint)
			}
			// The same page by page.
			var pages []string
			for after := ""; ; {
				before := after
				for d, err := range w.mgr.Select(w.ctx, test.s, after, 2) {
					require.NoError(t, err)
					pages, after = append(pages, d.Endpoint), d.Endpoint
				}
				if after == before {
					break
				}
			}
			require.Equal(t, got, pages, "%+v", test.s)
		}
	})
}

// TestSelectManyVersions asks for versions below another one in a fleet where each device has its
// own, more than a store counts.
func TestSelectManyVersions(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		var changes []store.Change
		for n := range store.MaxDeviceCounts + 100 {
			changes = append(changes, store.PutFirmware{Endpoint: fmt.Sprintf("d%04d", n), Firmware: store.Firmware{Version: fmt.Sprint("1.", n)}})
		}
		_, err := w.db.Commit(w.ctx, changes...)
		require.NoError(t, err)
		n := 0
		for _, err := range w.mgr.Select(w.ctx, firmware.Selector{VersionBelow: "1.1050"}, "", 0) {
			require.NoError(t, err)
			n++
		}
		require.Equal(t, 1050, n)
		// A page of devices that do not fit is short.
		short := false
		for _, err := range w.mgr.Select(w.ctx, firmware.Selector{VersionBelow: "0.1"}, "", 10) {
			require.ErrorIs(t, err, store.ErrShort)
			short = true
		}
		require.True(t, short)
	})
}

func TestSelectorCheck(t *testing.T) {
	for field, s := range map[string]firmware.Selector{
		"labels":        {Labels: map[string]string{"Site": "oslo"}},
		"manufacturer":  {Manufacturer: "a\nb"},
		"model":         {Model: string(make([]byte, 256))},
		"hardware":      {Hardware: "\xff"},
		"version":       {Version: "\x00"},
		"version_below": {VersionBelow: "newest"},
	} {
		var wrong *firmware.RequestError
		require.ErrorAs(t, s.Check(), &wrong, field)
		require.Equal(t, field, wrong.Field)
		require.NotEmpty(t, wrong.Problem)
	}
	require.NoError(t, firmware.Selector{Labels: map[string]string{"site": ""}, VersionBelow: "v1"}.Check())
}

// TestLabelsOutliveRegistrations: nothing that a device or the server does takes labels away.
func TestLabelsOutliveRegistrations(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
		labels := map[string]string{"site": "oslo", "canary": ""}
		_, err := w.mgr.SetLabels(w.ctx, endpoint, labels)
		require.NoError(t, err)
		has := func(when string) {
			t.Helper()
			d, err := w.mgr.Device(w.ctx, endpoint)
			require.NoError(t, err)
			require.Equal(t, labels, d.Labels, when)
			var found []string
			for d := range w.mgr.Select(w.ctx, firmware.Selector{Labels: labels}, "", 0) {
				found = append(found, d.Endpoint)
			}
			require.Equal(t, []string{endpoint}, found, when)
		}
		has("before the device registers")
		d := w.device(firmwaretest.Script{Version: oldFW, Install: firmwaretest.Install{Version: newFW}})
		time.Sleep(time.Minute)
		has("after a Register")
		u := w.update(w.request())
		require.Equal(t, firmware.OutcomeSucceeded, u.Outcome())
		has("after an update")
		d.Restart(0)
		time.Sleep(time.Minute)
		has("after another Register")
		w.stop()
		has("while no server runs")
		w.start(w.db)
		time.Sleep(time.Hour)
		has("after a restart of the server")

		changed := maps.Clone(labels)
		delete(changed, "canary")
		got, err := w.mgr.SetLabels(w.ctx, endpoint, changed)
		require.NoError(t, err)
		labels = changed
		require.Equal(t, labels, got.Labels)
		has("after a change")

		_, err = w.mgr.SetLabels(w.ctx, "unknown", nil)
		require.ErrorIs(t, err, store.ErrNotFound)
		var wrong *firmware.RequestError
		_, err = w.mgr.SetLabels(w.ctx, endpoint, map[string]string{"A": "b"})
		require.ErrorAs(t, err, &wrong)
		_, err = w.mgr.SetLabels(w.ctx, "", labels)
		require.True(t, errors.As(err, &wrong))
		has("after calls that were refused")
	})
}

// TestFleetCounts counts devices that listen, sleep, are silent, and are not registered.
func TestFleetCounts(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{Inventory: true}, func(w *world) {
		want := firmware.Fleet{}
		check := func(when string) {
			t.Helper()
			got, err := w.mgr.Fleet(w.ctx)
			require.NoError(t, err)
			require.Equal(t, want, got, when)
		}
		check("without devices")
		_, err := w.mgr.SetLabels(w.ctx, "later", map[string]string{"site": "oslo"})
		require.NoError(t, err)
		for n := range 3 {
			w.deviceNamed(fmt.Sprint("d", n), fmt.Sprint("10.0.1.", n+1), firmwaretest.Script{Version: oldFW, Device: acme})
		}
		w.deviceThat("sleeper", "10.0.1.4", func(c *lwm2m.ClientConfig) { c.Queue = true }, firmwaretest.Script{Version: newFW})
		time.Sleep(30 * time.Second)
		want.Devices, want.Listening, want.Asleep = 5, 4, 0
		want.WithVersion, want.Versions = 4, []store.DeviceCount{{Value: oldFW, Devices: 3}, {Value: newFW, Devices: 1}}
		want.WithModel, want.Models = 3, []store.DeviceCount{{Value: "S1", Devices: 3}}
		check("while all listen")
		time.Sleep(2 * time.Minute)
		want.Listening, want.Asleep = 3, 1
		check("when one sleeps")

		w.net.SetDefault(simnet.Conditions{Loss: 1})
		_, err = w.srv.Read(w.ctx, "d0", lwm2m.NewPath(3, 0))
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		want.Listening, want.Silent = 2, 1
		check("when one has not answered")
		w.net.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		_, err = w.srv.Read(w.ctx, "d0", lwm2m.NewPath(3, 0))
		require.NoError(t, err)
		want.Listening, want.Silent = 3, 0
		check("when it answers again")

		require.NoError(t, w.mgr.DeleteDevice(w.ctx, "d2"))
		w.net.SetDefault(simnet.Conditions{Loss: 1})
		time.Sleep(48 * time.Hour)
		want.Listening, want.Asleep = 0, 0
		want.Devices, want.WithVersion, want.WithModel = 4, 3, 2
		want.Versions[0].Devices, want.Models[0].Devices = 2, 2
		check("when their lifetimes are over")
	})
}
