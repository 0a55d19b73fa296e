package firmwaretest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

func TestListing(t *testing.T) {
	tests := map[string]struct {
		listing  firmwaretest.Listing
		has, not []string
		at       lwm2m.Path // where the State is; the root if nowhere
	}{
		"instance": {firmwaretest.ListsInstance, []string{"</5>;ver=1.1", "</5/0>"}, nil, state},
		"nothing":  {firmwaretest.ListsNothing, nil, []string{"</5"}, lwm2m.Path{}},
		"other":    {firmwaretest.ListsOtherInstance, []string{"</5/1>"}, []string{"</5/0>"}, lwm2m.NewPath(5, 1, 3)},
		"advanced": {firmwaretest.ListsAdvanced, []string{"</33629/0>"}, []string{"</5"}, lwm2m.NewPath(33629, 0, 3)},
		"object":   {firmwaretest.ListsNoInstance, []string{"</5>"}, []string{"</5/"}, state},
		"resource": {firmwaretest.ListsResources, []string{"</5/0/3>", "</5/0/5>"}, []string{"</5>", "</5/0>"}, state},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Listing: tc.listing}}
			scripted(t, script, func(w *world) {
				for _, link := range tc.has {
					require.Contains(w.t, w.links(), link)
				}
				for _, link := range tc.not {
					require.NotContains(w.t, w.links(), link)
				}
				require.Contains(w.t, w.links(), "</3/0>")
				if tc.at != state {
					_, err := w.read(state)
					require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
				}
				if !tc.at.IsRoot() {
					_, err := w.read(tc.at)
					require.NoError(w.t, err)
				}
			})
		})
	}
}

// TestListingWorks updates devices whose object is at another place.
func TestListingWorks(t *testing.T) {
	for listing, object := range map[firmwaretest.Listing]lwm2m.Path{
		firmwaretest.ListsOtherInstance: lwm2m.NewPath(5, 1), firmwaretest.ListsAdvanced: lwm2m.NewPath(33629, 0),
	} {
		script := firmwaretest.Script{
			Version: "1", Install: firmwaretest.Install{Version: "2"}, Habits: firmwaretest.Habits{Listing: listing},
		}
		scripted(t, script, func(w *world) {
			at := func(resource uint16) lwm2m.Path { return lwm2m.NewPath(object.Object(), object.Instance(), resource) }
			require.NoError(w.t, w.write(at(1), lwm2m.String("coap://host/fw")))
			<-time.After(time.Second)
			require.NoError(w.t, w.server.Execute(w.t.Context(), endpoint, at(2), ""))
			w.eventually(func() bool { v, err := w.read(version); return err == nil && v == lwm2m.String("2") })
		})
	}
}

func TestUnreadable(t *testing.T) {
	for _, code := range []lwm2m.ResponseCode{lwm2m.CodeNotFound, lwm2m.CodeMethodNotAllowed} {
		scripted(t, firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Unreadable: code}}, func(w *world) {
			require.Contains(w.t, w.links(), "</5/0>")
			for _, path := range []lwm2m.Path{state, result, lwm2m.NewPath(5, 0)} {
				_, err := w.server.Read(w.t.Context(), endpoint, path)
				requireCode(w.t, err, code)
			}
		})
	}
}

func TestLosesObject(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Install: firmwaretest.Install{Version: "2", RollsBack: time.Hour},
		Habits: firmwaretest.Habits{LosesObject: true},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		require.NoError(w.t, w.execute())
		w.eventually(func() bool { v, err := w.read(version); return err == nil && v == lwm2m.String("2") })
		require.NotContains(w.t, w.links(), "</5")
		_, err := w.read(state)
		require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
		w.shows(fsm.Idle, fsm.ResultUpdateFailed)
		require.Contains(w.t, w.links(), "</5/0>")
	})
}

func TestAppears(t *testing.T) {
	script := firmwaretest.Script{Version: "1", Habits: firmwaretest.Habits{Appears: 10 * time.Minute}}
	scripted(t, script, func(w *world) {
		require.NotContains(w.t, w.links(), "</5")
		_, err := w.read(state)
		require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
		<-time.After(9 * time.Minute)
		require.NotContains(w.t, w.links(), "</5")
		<-time.After(2 * time.Minute)
		require.Contains(w.t, w.links(), "</5/0>")
		w.shows(fsm.Idle, fsm.ResultDefault)
		require.Equal(w.t, 1, w.happened(lwm2m.EventRegistered), "by an Update")
	})
}
