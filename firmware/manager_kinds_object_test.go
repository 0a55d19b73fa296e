package firmware_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// TestNoObject updates devices without a usable Object 5. The update ends soon, with its reason,
// before anything is written.
func TestNoObject(t *testing.T) {
	says := func(v lwm2m.Value) firmwaretest.Habits {
		return firmwaretest.Habits{Nonsense: firmwaretest.Nonsense{Values: map[lwm2m.Path]lwm2m.Value{lwm2m.NewPath(5, 0, 3): v}}}
	}
	for name, test := range map[string]struct {
		habits firmwaretest.Habits
		reason fsm.Reason
	}{
		"not there":       {firmwaretest.Habits{Listing: firmwaretest.ListsNothing}, fsm.ReasonNoObject},
		"other instance":  {firmwaretest.Habits{Listing: firmwaretest.ListsOtherInstance}, fsm.ReasonNoObject},
		"advanced":        {firmwaretest.Habits{Listing: firmwaretest.ListsAdvanced}, fsm.ReasonNoObject},
		"4.04":            {firmwaretest.Habits{Unreadable: lwm2m.CodeNotFound}, fsm.ReasonNoObject},
		"4.05":            {firmwaretest.Habits{Unreadable: lwm2m.CodeMethodNotAllowed}, fsm.ReasonNoObject},
		"later than that": {firmwaretest.Habits{Appears: time.Minute}, fsm.ReasonNoObject},
		"no content": {firmwaretest.Habits{Nonsense: firmwaretest.Nonsense{
			NoContent: []lwm2m.Path{lwm2m.NewPath(5, 0), lwm2m.NewPath(5, 0, 3)}}}, fsm.ReasonNoObject},
		"empty pack": {firmwaretest.Habits{Nonsense: firmwaretest.Nonsense{
			EmptyPack: []lwm2m.Path{lwm2m.NewPath(5, 0), lwm2m.NewPath(5, 0, 3)}}}, fsm.ReasonNoObject},
		"43":          {says(lwm2m.Integer(43)), fsm.ReasonBadState},
		"4":           {says(lwm2m.Integer(4)), fsm.ReasonBadState},
		"-1":          {says(lwm2m.Integer(-1)), fsm.ReasonBadState},
		"huge":        {says(lwm2m.Integer(1 << 62)), fsm.ReasonBadState},
		"a text":      {says(lwm2m.String("yes")), fsm.ReasonBadState},
		"empty text":  {says(lwm2m.String("")), fsm.ReasonBadState},
		"a fraction":  {says(lwm2m.Float(0.5)), fsm.ReasonBadState},
		"bytes":       {says(lwm2m.Opaque([]byte("\xff\xfe\x00"))), fsm.ReasonBadState},
		"resource 43": {firmwaretest.Habits{NoInstanceRead: true, Nonsense: says(lwm2m.Integer(43)).Nonsense}, fsm.ReasonBadState},
	} {
		for _, version := range []string{oldFW, ""} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					tap := w.tap()
					script := good()
					script.Habits, script.Version = test.habits, version
					w.device(script)
					time.Sleep(time.Second)
					r := w.request()
					r.Force = version == ""
					u := w.update(r)
					w.ends(u, fsm.OutcomeFailed, test.reason)
					require.Equal(t, fsm.ResultUpdateFailed, u.Machine.Result)
					require.Less(t, u.Machine.Ended.Sub(u.Created), 15*time.Second)
					for _, request := range tap.requests() {
						require.True(t, strings.HasPrefix(request, "GET"), request)
					}
					d, err := w.mgr.Device(w.ctx, endpoint)
					require.NoError(t, err)
					if test.reason == fsm.ReasonNoObject {
						require.Nil(t, d.Firmware.State)
						require.Nil(t, d.Firmware.Result)
						require.Nil(t, d.Firmware.Delivery)
					}
					require.Equal(t, version, d.Firmware.Version)
				})
			})
		}
	}
}

// TestNoObjectNeeded has a device without Object 5 that already runs the target.
func TestNoObjectNeeded(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		w.device(firmwaretest.Script{Version: newFW, Habits: firmwaretest.Habits{Listing: firmwaretest.ListsNothing}})
		w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonAlreadyRunning)
	})
}

// TestObjectAppears creates Object 5 a moment after the registration, as some clients do.
func TestObjectAppears(t *testing.T) {
	inWorld(t, firmware.ManagerConfig{}, func(w *world) {
		script := good()
		script.Habits.Appears = 2 * time.Second
		u := w.begin(w.request())
		w.device(script)
		w.ends(w.wait(u.ID, time.Hour), fsm.OutcomeSucceeded, fsm.ReasonVersion)
	})
}

// TestObjectListed has a registration that lists less than there is: that decides nothing.
func TestObjectListed(t *testing.T) {
	for _, listing := range []firmwaretest.Listing{firmwaretest.ListsNoInstance, firmwaretest.ListsResources} {
		inWorld(t, firmware.ManagerConfig{}, func(w *world) {
			script := good()
			script.Habits.Listing = listing
			w.device(script)
			w.ends(w.update(w.request()), fsm.OutcomeSucceeded, fsm.ReasonVersion)
		})
	}
}

// TestLosesObject installs firmware without Object 5: the version decides, or the limit.
func TestLosesObject(t *testing.T) {
	for version, want := range map[string]fsm.Outcome{
		newFW: fsm.OutcomeSucceeded, oldFW: fsm.OutcomeRolledBack, "0.9.9": fsm.OutcomeTimedOut, newFW + "\x00": fsm.OutcomeSucceeded,
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Habits.LosesObject, script.Install.Version = true, version
				w.device(script)
				u := w.update(w.request())
				require.Equal(t, want, u.Machine.Outcome, w.journal(u.ID))
				if want == fsm.OutcomeTimedOut {
					require.Equal(t, fsm.ResultUpdateFailed, u.Machine.Result)
				}
				d, err := w.mgr.Device(w.ctx, endpoint)
				require.NoError(t, err)
				require.Nil(t, d.Firmware.State)
				require.Nil(t, d.Firmware.Result)
				require.Nil(t, d.Firmware.Delivery)
			})
		})
	}
}

// TestOddVersions has a device whose 3/0/3 always holds odd values.
func TestOddVersions(t *testing.T) {
	type odd struct {
		nonsense firmwaretest.Nonsense
		reason   fsm.Reason // with verify version
	}
	path := lwm2m.NewPath(3, 0, 3)
	cases := map[string]odd{
		"no content": {firmwaretest.Nonsense{NoContent: []lwm2m.Path{path}}, fsm.ReasonResult},
		"empty pack": {firmwaretest.Nonsense{EmptyPack: []lwm2m.Path{path}}, fsm.ReasonResult},
		"blanks": {firmwaretest.Nonsense{Values: map[lwm2m.Path]lwm2m.Value{path: lwm2m.String(" \t\x00")}},
			fsm.ReasonResult},
	}
	same := map[string]bool{"trailing NUL": true, "blanks around": true}
	for name, v := range firmwaretest.OddVersions(newFW) {
		reason := fsm.ReasonVersionMismatch
		switch {
		case name == "empty":
			reason = fsm.ReasonResult
		case same[name]:
			reason = fsm.ReasonAlreadyRunning
		}
		cases[name] = odd{firmwaretest.Nonsense{Values: map[lwm2m.Path]lwm2m.Value{path: v}}, reason}
	}
	for name, test := range cases {
		for _, verify := range []fsm.Verify{fsm.VerifyVersion, fsm.VerifyResult} {
			t.Run(name+" "+string(verify), func(t *testing.T) {
				t.Parallel()
				inWorld(t, firmware.ManagerConfig{}, func(w *world) {
					script := good()
					script.Version = ""
					script.Habits.Nonsense = test.nonsense
					w.device(script)
					r := w.request()
					r.Verify = verify
					u := w.update(r)
					reason := test.reason
					if verify == fsm.VerifyResult && reason != fsm.ReasonAlreadyRunning {
						reason = fsm.ReasonResult
					}
					require.Equal(t, reason, u.Machine.Reason, w.journal(u.ID))
					require.Equal(t, reason != fsm.ReasonVersionMismatch, u.Machine.Outcome == fsm.OutcomeSucceeded)
					for u, err := range w.db.Updates(w.ctx, store.UpdateQuery{}) {
						require.NoError(t, err)
						require.NotContains(t, u.Machine.Version, "\x00")
					}
				})
			})
		}
	}
}

// TestVersionPadded has a device pad its version: blanks and NUL around it do not count.
func TestVersionPadded(t *testing.T) {
	for name, pad := range map[string]func(string) string{
		"NUL":    func(s string) string { return s + "\x00" },
		"NULs":   func(s string) string { return s + "\x00\x00\x00" },
		"blanks": func(s string) string { return " " + s + " \r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Version, script.Install.Version = pad(oldFW), pad(newFW)
				w.device(script)
				u := w.update(w.request())
				w.ends(u, fsm.OutcomeSucceeded, fsm.ReasonVersion)
				require.Equal(t, oldFW, u.Machine.OldVersion)
				require.Equal(t, newFW, u.Machine.Version)
			})
			inWorld(t, firmware.ManagerConfig{}, func(w *world) {
				script := good()
				script.Version, script.Install.Version, script.Install.Forgets = pad(oldFW), oldFW, true
				w.device(script)
				w.ends(w.update(w.request()), fsm.OutcomeRolledBack, fsm.ReasonOldVersion)
			})
		})
	}
}
