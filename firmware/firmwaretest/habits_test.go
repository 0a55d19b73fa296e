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

func TestPlainUpdate(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", PullTime: time.Minute, PkgVersion: "2", Install: firmwaretest.Install{Version: "2", BootTime: time.Second},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Downloading, fsm.ResultDefault)
		w.shows(fsm.Downloaded, fsm.ResultDefault)
		v, err := w.read(pkgVer)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("2"), v)
		require.NoError(w.t, w.execute())
		w.shows(fsm.Idle, fsm.ResultSuccess)
		v, err = w.read(version)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.String("2"), v)
		require.Equal(w.t, []string{"uri coap://host/fw", "execute"}, w.device.Log())
	})
}

// TestStateFirst: the pause between State and Result ends with the life of the device.
func TestStateFirst(t *testing.T) {
	script := firmwaretest.Script{
		Version: "1", Pull: func(context.Context, string) fsm.Result { return fsm.ResultInvalidURI },
		Habits: firmwaretest.Habits{StateFirst: time.Minute},
	}
	scripted(t, script, func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		w.shows(fsm.Idle, fsm.ResultDefault)
		w.shows(fsm.Idle, fsm.ResultInvalidURI)
		require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
		<-time.After(time.Second)
		w.device.Restart(time.Second)
		<-time.After(5 * time.Minute)
		w.shows(fsm.Idle, fsm.ResultDefault)
	})
}

func TestSilent(t *testing.T) {
	for _, queue := range []bool{false, true} {
		script := firmwaretest.Script{Version: "1", Install: firmwaretest.Install{Version: "2", Silent: true}}
		scripted(t, script, func(w *world) {
			require.NoError(w.t, w.write(uri, lwm2m.String("coap://host/fw")))
			w.shows(fsm.Downloaded, fsm.ResultDefault)
			require.NoError(w.t, w.execute())
			<-time.After(time.Minute)
			r, ok := w.server.Registration(endpoint)
			require.True(w.t, ok, "it said no farewell")
			require.Equal(w.t, queue, r.Queue)
			require.Zero(w.t, w.happened(lwm2m.EventExpired))
			<-time.After(24 * time.Hour)
			require.Equal(w.t, 1, w.happened(lwm2m.EventRegistered))
			require.Equal(w.t, 1, w.happened(lwm2m.EventExpired))
		}, func(c *lwm2m.ClientConfig) { c.Queue = queue })
	}
}
