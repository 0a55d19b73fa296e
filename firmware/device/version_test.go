package device

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestObjectFollowsVersion: Object 5 has the version that belongs to the version of LwM2M, with the
// resources of that version.
func TestObjectFollowsVersion(t *testing.T) {
	r := newRig(t)
	r.config.ObjectVersion = fsm.Object12
	require.NoError(t, r.start())
	for _, tc := range []struct {
		minor   uint8
		version string
		has     []uint16
		hasNot  []uint16
	}{
		{2, "1.2", []uint16{resSeverity, resMaxDefer, resAutoUpgrade}, nil},
		{0, "", nil, []uint16{resSeverity, resChanged, resMaxDefer, resAutoUpgrade}},
		{1, "1.1", []uint16{resSeverity, resMaxDefer}, []uint16{resAutoUpgrade}},
	} {
		object := r.object().(lwm2m.VersionFollower)
		object.FollowVersion(lwm2m.Version{Major: 1, Minor: tc.minor})
		require.Equal(t, tc.version, object.Version())
		for _, id := range tc.has {
			_, err := r.read(id)
			require.NoError(t, err, "%d", id)
		}
		for _, id := range tc.hasNot {
			_, err := r.read(id)
			require.ErrorIs(t, err, lwm2m.ErrNotFound, "%d", id)
			if id != resChanged {
				require.Error(t, r.write(id, lwm2m.Integer(1)))
			}
		}
	}
	object := r.object().(lwm2m.VersionFollower)
	require.NoError(t, r.push(testImage("2.0", 100), 64))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.Equal(t, "1.1", object.Version(), "also after steps")

	d, err := New(r.open, Config{})
	require.NoError(t, err)
	lower := d.Object().(lwm2m.VersionFollower)
	lower.FollowVersion(lwm2m.Version{Major: 1, Minor: 2})
	require.Equal(t, "1.1", lower.Version(), "not above what it is configured to be")
}

// TestReplaceObject replaces instance /5/0: settings that are not named get their defaults, and the
// package stays.
func TestReplaceObject(t *testing.T) {
	r := newRig(t)
	r.config.ObjectVersion = fsm.Object12
	require.NoError(t, r.start())
	instance := lwm2m.NewPath(5, 0)
	entry := func(id uint16, v lwm2m.Value) lwm2m.Entry {
		return lwm2m.Entry{Path: lwm2m.NewPath(5, 0, id), Value: v}
	}
	all := []lwm2m.Entry{entry(resSeverity, lwm2m.Integer(2)), entry(resMaxDefer, lwm2m.Integer(60)), entry(resAutoUpgrade, lwm2m.Boolean(true))}
	write := func(replace bool, entries ...lwm2m.Entry) error {
		return r.object().Write(context.Background(), instance, entries, replace)
	}
	settings := func() [3]any { o := r.now(); return [3]any{o.Severity, o.MaxDefer, o.AutoUpgrade} }
	begins, written := [3]any{uint8(fsm.SeverityMandatory), uint32(0), false}, [3]any{uint8(fsm.SeverityOptional), uint32(60), true}
	require.Equal(t, begins, settings())
	for i := range all {
		require.NoError(t, write(true, all...))
		require.Equal(t, written, settings())
		require.NoError(t, write(false, all[i]))
		require.Equal(t, written, settings(), "a partial Write leaves the rest")
		require.NoError(t, write(true, all[i]))
		want := begins
		want[i] = written[i]
		require.Equal(t, want, settings())
	}
	require.NoError(t, write(true))
	require.Equal(t, begins, settings())

	require.NoError(t, r.push(testImage("2.0", 100), 64))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
	require.NoError(t, write(true, all[0]))
	require.Equal(t, fsm.Downloaded, r.now().State)
	require.NoError(t, write(true, all[:2]...))
	require.Error(t, write(true, entry(resSeverity, lwm2m.Integer(0)), entry(resURI, lwm2m.String("http://127.0.0.1/x"))), "in this state")
	require.Equal(t, [3]any{uint8(fsm.SeverityOptional), uint32(60), false}, settings(), "all or none")
}
