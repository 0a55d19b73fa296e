package oma

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestTable reads the whole table: each object has versions, and each version can be used.
func TestTable(t *testing.T) {
	objects, all, resources := 0, 0, 0
	models := new(lwm2m.Models)
	for _, e := range index() {
		list := versions(e.id)
		require.NotEmpty(t, list, e.id)
		require.NoError(t, models.Add(list...), e.id)
		require.True(t, slices.IsSortedFunc(list, func(a, b *lwm2m.ObjectModel) int { return a.Version.Compare(b.Version) }), e.id)
		_, builtin := (*lwm2m.Models)(nil).Object(e.id, lwm2m.Version{})
		require.False(t, builtin, e.id)
		objects++
		for _, m := range list {
			require.Equal(t, e.id, m.ID)
			require.NotEmpty(t, m.Name, e.id)
			all++
			for _, r := range m.Resources {
				require.NotEmpty(t, r.Name, "%d/%d", e.id, r.ID)
				resources++
			}
		}
	}
	require.Equal(t, strings.Count(table, "/")-strings.Count(strings.ReplaceAll("\n"+table, "\n/", ""), "/"), objects)
	require.Equal(t, []int{322, 411, 4259}, []int{objects, all, resources})
	require.True(t, slices.IsSortedFunc(index(), func(a, b entry) int { return int(a.id) - int(b.id) }))
	for _, id := range []uint16{0, 8000, lwm2m.NoID} {
		require.Nil(t, versions(id))
	}
}

// TestWellKnown compares objects that every device has, or many, with what their specifications
// say.
func TestWellKnown(t *testing.T) {
	const r, w, x = lwm2m.Readable, lwm2m.Writable, lwm2m.Executable
	models := Models()
	for _, test := range []struct {
		path    lwm2m.Path
		version string // "": the newest
		object  string
		want    lwm2m.ResourceModel
	}{
		{lwm2m.NewPath(3, 0, 9), "", "Device", lwm2m.ResourceModel{Name: "Battery Level", Operations: r, Type: lwm2m.TypeInteger, Unit: "%"}},
		{lwm2m.NewPath(3, 0, 4), "1.0", "Device", lwm2m.ResourceModel{Name: "Reboot", Operations: x, Mandatory: true}},
		{lwm2m.NewPath(4, 0, 2), "1.0", "Connectivity Monitoring", lwm2m.ResourceModel{Name: "Radio Signal Strength", Operations: r, Type: lwm2m.TypeInteger, Mandatory: true, Unit: "dBm"}},
		{lwm2m.NewPath(4, 0, 4), "", "Connectivity Monitoring", lwm2m.ResourceModel{Name: "IP Addresses", Operations: r, Type: lwm2m.TypeString, Multiple: true, Mandatory: true}},
		{lwm2m.NewPath(5, 0, 3), "1.1", "Firmware Update", lwm2m.ResourceModel{Name: "State", Operations: r, Type: lwm2m.TypeInteger, Mandatory: true}},
		{lwm2m.NewPath(6, 0, 0), "", "Location", lwm2m.ResourceModel{Name: "Latitude", Operations: r, Type: lwm2m.TypeFloat, Mandatory: true, Unit: "lat"}},
		{lwm2m.NewPath(6, 0, 5), "", "Location", lwm2m.ResourceModel{Name: "Timestamp", Operations: r, Type: lwm2m.TypeTime, Mandatory: true}},
		{lwm2m.NewPath(7, 0, 8), "", "Connectivity Statistics", lwm2m.ResourceModel{Name: "Collection Period", Operations: r | w, Type: lwm2m.TypeInteger, Unit: "s"}},
		{lwm2m.NewPath(3303, 0, 5700), "", "Temperature", lwm2m.ResourceModel{Name: "Sensor Value", Operations: r, Type: lwm2m.TypeFloat, Mandatory: true}},
		{lwm2m.NewPath(3303, 0, 5605), "1.0", "Temperature", lwm2m.ResourceModel{Name: "Reset Min and Max Measured Values", Operations: x}},
		{lwm2m.NewPath(3311, 0, 5850), "", "Light Control", lwm2m.ResourceModel{Name: "On/Off", Operations: r | w, Type: lwm2m.TypeBoolean, Mandatory: true}},
		{lwm2m.NewPath(3380, 0, 6038), "1.0", "PrachReport", lwm2m.ResourceModel{Name: "subFrameNumber", Operations: r, Type: lwm2m.TypeBoolean, Mandatory: true}},
		{lwm2m.NewPath(3380, 0, 6038), "2.0", "PrachReport", lwm2m.ResourceModel{Name: "subFrameNumber", Operations: r, Type: lwm2m.TypeInteger, Mandatory: true}},
		{lwm2m.NewPath(21, 0, 0), "1.0", "LWM2M OSCORE", lwm2m.ResourceModel{Name: "OSCORE Master Secret", Type: lwm2m.TypeString, Mandatory: true}},
		{lwm2m.NewPath(21, 0, 0), "2.0", "LWM2M OSCORE", lwm2m.ResourceModel{Name: "OSCORE Master Secret", Type: lwm2m.TypeOpaque, Mandatory: true}},
	} {
		var version lwm2m.Version
		if test.version != "" {
			var err error
			version, err = lwm2m.ParseVersion(test.version)
			require.NoError(t, err)
		}
		o, ok := models.Object(test.path.Object(), version)
		require.True(t, ok, test.path)
		i := slices.IndexFunc(o.Resources, func(r lwm2m.ResourceModel) bool { return r.ID == test.path.Resource() })
		require.GreaterOrEqual(t, i, 0, test.path)
		test.want.ID = test.path.Resource()
		require.Equal(t, test.want, o.Resources[i], test.path)
		require.Equal(t, test.object, o.Name)
	}
	o, _ := models.Object(3303, lwm2m.Version{Major: 1})
	require.True(t, o.Multiple)
	_, ok := models.Object(33629, lwm2m.Version{})
	require.True(t, ok, "the built-in objects are in the set too")
}

// TestGone: a version may lack a resource of the one before.
func TestGone(t *testing.T) {
	list := versions(3336)
	has := func(m *lwm2m.ObjectModel, id uint16) bool {
		return slices.ContainsFunc(m.Resources, func(r lwm2m.ResourceModel) bool { return r.ID == id })
	}
	require.Len(t, list, 3)
	require.True(t, has(list[1], 5514))
	require.False(t, has(list[2], 5514))
}

// TestMemory: an object costs memory when it is looked up, and all of them together little.
func TestMemory(t *testing.T) {
	index()
	allocated := func(f func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	models := Models()
	one := allocated(func() { models.Object(3303, lwm2m.Version{}) })
	all := allocated(func() {
		for _, e := range index() {
			models.Object(e.id, lwm2m.Version{})
		}
	})
	t.Logf("one object: %d bytes; all: %d bytes; the table: %d bytes", one, all, len(table))
	require.Less(t, one, uint64(32<<10))
	require.Less(t, all, uint64(1<<20))
}

func BenchmarkObject(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		index()
		for b.Loop() {
			Models().Object(3303, lwm2m.Version{})
		}
	})
	b.Run("again", func(b *testing.B) {
		models := Models()
		for b.Loop() {
			models.Object(3303, lwm2m.Version{})
		}
	})
}
