package device

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestWriteSeveral: a Write of several resources applies all of them or none.
func TestWriteSeveral(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	entries := []lwm2m.Entry{
		{Path: lwm2m.NewPath(5, 0, resMaxDefer), Value: lwm2m.Unsigned(60)},
		{Path: lwm2m.NewPath(5, 0, resSeverity), Value: lwm2m.Integer(7)},
	}
	requireCode(t, r.object().Write(t.Context(), lwm2m.NewPath(5, 0), entries, false), lwm2m.CodeBadRequest)
	require.Zero(t, r.now().MaxDefer)
	entries[1].Value = lwm2m.Integer(0)
	require.NoError(t, r.object().Write(t.Context(), lwm2m.NewPath(5, 0), entries, false))
	require.EqualValues(t, 60, r.now().MaxDefer)
}

func TestResourcesByVersion(t *testing.T) {
	resources := func(v fsm.ObjectVersion) (ids []uint16) {
		r := newRig(t)
		r.config.ObjectVersion = v
		require.NoError(t, r.start())
		entries, err := r.object().Read(t.Context(), lwm2m.NewPath(5, 0))
		require.NoError(t, err)
		for _, e := range entries {
			if n := len(ids); n == 0 || ids[n-1] != e.Path.Resource() {
				ids = append(ids, e.Path.Resource())
			}
		}
		return ids
	}
	require.Equal(t, []uint16{1, 3, 5, 8, 9}, resources(fsm.Object10))
	require.Equal(t, []uint16{1, 3, 5, 8, 9, 11, 13}, resources(fsm.Object11))
	require.Equal(t, []uint16{1, 3, 5, 8, 9, 11, 13, 14}, resources(fsm.Object12))
}

func TestAutoUpgrade(t *testing.T) {
	r := newRig(t)
	r.config.ObjectVersion = fsm.Object12
	require.NoError(t, r.start())
	require.NoError(t, r.write(resAutoUpgrade, lwm2m.Boolean(true)))
	require.NoError(t, r.push(testImage("2", 100), 50))
	require.ErrorIs(t, r.end(), ErrRestart)
}

func TestDeferAndAccept(t *testing.T) {
	r := newRig(t)
	r.config.Defer = func() bool { return true }
	require.NoError(t, r.start())
	require.NoError(t, r.write(resMaxDefer, lwm2m.Unsigned(3600)))
	require.NoError(t, r.push(testImage("2", 100), 50))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, r.execute(resUpdate))
	r.wait(fsm.Downloaded, fsm.ResultDeferred)
	require.NoError(t, r.device.Accept(t.Context()))
	require.ErrorIs(t, r.end(), ErrRestart)
}

// TestNotPersistedNotAnswered: a request that cannot be saved is refused, and the Result says why.
func TestNotPersistedNotAnswered(t *testing.T) {
	r := newRig(t)
	full := false
	r.hook = func(op string) error {
		if full && op == "create "+r.open.path(deviceFile) {
			return errors.New("disk broken")
		}
		return nil
	}
	require.NoError(t, r.start())
	r.now()
	full = true
	require.ErrorContains(t, r.write(resURI, lwm2m.String("http://127.0.0.1:1/fw")), "disk broken")
	require.Equal(t, fsm.Idle, r.now().State)
	require.Equal(t, fsm.ResultNoStorage, r.now().Result)
	require.Equal(t, []lwm2m.Path{pathResult}, r.client.paths())
	requireCode(t, r.execute(resUpdate), lwm2m.CodeMethodNotAllowed)
}

// TestPushEndNotSaved lets the disk fail once, at the end of a push: the device accepts the next
// one.
func TestPushEndNotSaved(t *testing.T) {
	r := newRig(t)
	broken := 0
	r.hook = func(op string) error {
		if op == "create "+r.open.path(deviceFile) {
			if broken++; broken == 2 { // after its beginning
				return errors.New("disk broken")
			}
		}
		return nil
	}
	require.NoError(t, r.start())
	require.ErrorContains(t, r.push(testImage("2", 1000), 256), "disk broken")
	r.wait(fsm.Idle, fsm.ResultNoStorage)
	require.NoError(t, r.push(testImage("2", 1000), 256))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
}
