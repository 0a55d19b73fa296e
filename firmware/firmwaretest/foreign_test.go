package firmwaretest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

func TestForeignRefuses(t *testing.T) {
	for _, refusal := range []lwm2m.ResponseCode{0, lwm2m.CodeMethodNotAllowed} {
		foreign := &firmwaretest.Foreign{Version: "666", Name: "other", PkgVersion: "1.1.0", Refusal: refusal}
		want := refusal
		if want == 0 {
			want = lwm2m.CodeBadRequest
		}
		script := firmwaretest.Script{
			Version: "1", Install: firmwaretest.Install{Version: "2"}, Habits: firmwaretest.Habits{Foreign: foreign},
		}
		scripted(t, script, func(w *world) {
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			v, err := w.read(pkgVer)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.String("1.1.0"), v)
			requireCode(w.t, w.write(uri, lwm2m.String("coap://host/fw")), want)
			requireCode(w.t, w.write(pkg, lwm2m.Opaque(make([]byte, 3000))), want)
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			require.NoError(w.t, w.execute())
			w.shows(fsm.Idle, fsm.ResultSuccess)
			require.Equal(w.t, "666", w.device.Version())
			// From here on the device behaves like any other.
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			_, err = w.read(pkgVer)
			require.ErrorIs(w.t, err, lwm2m.ErrNotFound)
			require.NoError(w.t, w.execute())
			w.eventually(func() bool { return w.device.Version() == "2" })
		})
	}
}

func TestForeignReset(t *testing.T) {
	resets := map[string]func(w *world) error{
		"URI":    func(w *world) error { return w.write(uri, lwm2m.String("")) },
		"NUL":    func(w *world) error { return w.write(pkg, lwm2m.Opaque([]byte{0})) },
		"cancel": func(w *world) error { return w.server.Execute(w.t.Context(), endpoint, lwm2m.NewPath(5, 0, 10), "") },
	}
	for name, reset := range resets {
		t.Run(name, func(t *testing.T) {
			script := firmwaretest.Script{
				Version: "1", Install: firmwaretest.Install{Version: "2"},
				Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", PkgVersion: "666"}},
			}
			scripted(t, script, func(w *world) {
				require.NoError(w.t, reset(w))
				w.eventually(func() bool { v, err := w.read(state); return err == nil && v == lwm2m.Integer(0) })
				require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
				w.shows(fsm.Downloaded, fsm.ResultDefault)
				require.NoError(w.t, w.execute())
				w.eventually(func() bool { return w.device.Version() == "2" })
			})
		})
	}
}

func TestForeignIgnoresURI(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Install: firmwaretest.Install{Version: "2"},
		Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", URI: firmwaretest.IgnoresURI}},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		<-time.After(time.Hour)
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		v, err := w.read(uri)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("coap://host/fw"), v)
		require.NoError(w.t, w.execute())
		w.eventually(func() bool { return w.device.Version() == "666" })
	})
}

func TestForeignTakesURI(t *testing.T) {
	for _, failure := range []fsm.Result{fsm.ResultDefault, fsm.ResultInvalidURI} {
		var fetched []string
		script := firmwaretest.Script{
			Version: "1", PkgVersion: "2", Install: firmwaretest.Install{Version: "2"},
			Pull: func(_ context.Context, uri string) fsm.Result {
				<-time.After(time.Minute)
				fetched = append(fetched, uri)
				return failure
			},
			Habits: firmwaretest.Habits{Foreign: &firmwaretest.Foreign{Version: "666", PkgVersion: "666", URI: firmwaretest.TakesURI}},
		}
		scripted(t, script, func(w *world) {
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			for range 30 {
				<-time.After(3 * time.Second)
				v, err := w.read(state)
				require.NoError(w.t, err)
				require.Equal(w.t, lwm2m.Integer(2), v)
			}
			require.Equal(w.t, []string{"coap://host/fw"}, fetched)
			w.shows(fsm.Downloaded, failure)
			want := "2"
			if failure != fsm.ResultDefault {
				want = "666"
			}
			v, err := w.read(pkgVer)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.String(want), v)
			require.NoError(w.t, w.execute())
			w.eventually(func() bool { return w.device.Version() == want })
		})
	}
}
