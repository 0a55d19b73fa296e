package lwm2m_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// parseVersion reads a version; "" is the zero Version.
func parseVersion(t *testing.T, s string) (v lwm2m.Version) {
	t.Helper()
	if s != "" {
		var err error
		v, err = lwm2m.ParseVersion(s)
		require.NoError(t, err)
	}
	return v
}

// TestModelsFor: which version of an object counts for a device that lists it.
func TestModelsFor(t *testing.T) {
	for _, test := range []struct {
		known  []string
		listed string // of object 26241
		want   string
	}{
		{[]string{"1.0", "1.1", "2.0"}, "</26241/0>", "1.0"},
		{[]string{"1.0", "1.1", "2.0"}, "</26241>;ver=1.0", "1.0"},
		{[]string{"1.0", "1.1", "2.0"}, "</26241>;ver=1.1,</26241/0>", "1.1"},
		{[]string{"1.0", "1.1", "2.0"}, `</26241>;ver="1.1",</26241/0>`, "1.1"},
		{[]string{"1.0", "1.1", "2.0"}, "</26241>;ver=2.0", "2.0"},
		// An unknown version: the nearest lower one of the same major version, else the nearest
		// higher one of it.
		{[]string{"1.0", "1.2", "2.0"}, "</26241>;ver=1.1", "1.0"},
		{[]string{"1.0", "1.2", "2.0"}, "</26241>;ver=1.9", "1.2"},
		{[]string{"1.2", "1.4"}, "</26241>;ver=1.1", "1.2"},
		{[]string{"1.2", "1.4"}, "</26241/0>", "1.2"},
		{[]string{"1.0", "2.3", "2.5"}, "</26241>;ver=2.0", "2.3"},
		// An unknown major version: the nearest lower version, else the nearest higher one.
		{[]string{"1.0", "1.1", "3.0", "4.0"}, "</26241>;ver=2.0", "1.1"},
		{[]string{"3.0", "4.0"}, "</26241>;ver=2.0", "3.0"},
		// Without a version, and without a 1.x that it would mean.
		{[]string{"2.0", "2.1"}, "</26241/0>", "2.1"},
		{[]string{"2.0", "2.1"}, "</26241>;ver=1.0", "2.0"},
		// An object that the device does not list, and a list that cannot be read.
		{[]string{"1.0", "1.1"}, "</3/0>", "1.1"},
		{[]string{"1.0", "1.1"}, "junk", "1.1"},
	} {
		var m lwm2m.Models
		for _, v := range test.known {
			require.NoError(t, m.Add(&lwm2m.ObjectModel{ID: 26241, Version: parseVersion(t, v)}))
		}
		for _, lwm2mVersion := range []string{"1.0", "1.1", "1.2"} {
			view := m.For(lwm2m.Registration{Version: parseVersion(t, lwm2mVersion), Links: test.listed})
			o, ok := view.Object(26241, lwm2m.Version{})
			require.True(t, ok)
			require.Equal(t, test.want, o.Version.String(), "%v %s", test.known, test.listed)
			o, ok = view.For(lwm2m.Registration{Links: "</26241>;ver=" + test.known[0]}).Object(26241, lwm2m.Version{})
			require.True(t, ok)
			require.Equal(t, test.known[0], o.Version.String(), "a view of a view is that of the last device")
		}
		_, ok := m.For(lwm2m.Registration{Links: test.listed}).Object(26241, parseVersion(t, "9.9"))
		require.False(t, ok)
	}
	// LwM2M implies the versions of its own objects.
	for lwm2mVersion, want := range map[string]string{"1.0": "1.0", "1.1": "1.1", "1.2": "1.2"} {
		view := (*lwm2m.Models)(nil).For(lwm2m.Registration{Version: parseVersion(t, lwm2mVersion), Links: "</3/0>,</5>;ver=1.1"})
		o, _ := view.Object(3, lwm2m.Version{})
		require.Equal(t, want, o.Version.String())
		o, _ = view.Object(5, lwm2m.Version{})
		require.Equal(t, "1.1", o.Version.String(), "the device names it")
	}
}

// TestModelsAddFunc: a function makes models when they are needed.
func TestModelsAddFunc(t *testing.T) {
	var m lwm2m.Models
	calls := 0
	name := func(v, name string) *lwm2m.ObjectModel {
		return &lwm2m.ObjectModel{ID: 26241, Version: parseVersion(t, v), Name: name}
	}
	m.AddFunc(func(object uint16) []*lwm2m.ObjectModel {
		if calls++; object != 26241 {
			return nil
		}
		return []*lwm2m.ObjectModel{
			name("2.0", "two"), name("1.0", "one"), nil, {ID: 5, Version: parseVersion(t, "1.0"), Name: "of another object"},
			{ID: 26241, Version: parseVersion(t, "3.0"), Resources: []lwm2m.ResourceModel{{ID: 1}, {ID: 1}}},
		}
	})
	require.Zero(t, calls)
	for range 3 {
		o, ok := m.Object(26241, lwm2m.Version{})
		require.True(t, ok)
		require.Equal(t, "two", o.Name, "3.0 is not usable")
		_, ok = m.Object(1000, lwm2m.Version{})
		require.False(t, ok)
	}
	require.Equal(t, 2, calls)
	o, _ := m.Object(5, parseVersion(t, "1.0"))
	require.Equal(t, "Firmware Update", o.Name)

	require.NoError(t, m.Add(name("2.0", "mine")))
	o, _ = m.Object(26241, lwm2m.Version{})
	require.Equal(t, "mine", o.Name, "Add replaces")
	m.AddFunc(func(uint16) []*lwm2m.ObjectModel {
		return []*lwm2m.ObjectModel{name("1.0", "later"), name("2.0", "later")}
	})
	o, _ = m.Object(26241, parseVersion(t, "1.0"))
	require.Equal(t, "later", o.Name, "a later function replaces an earlier one")
	o, _ = m.Object(26241, parseVersion(t, "2.0"))
	require.Equal(t, "mine", o.Name)
}

// meterModel returns an object whose resource 1 has another type, and whose resource 2 has another
// number of instances, in each version. Version 1.0 has a resource that the others have not.
func meterModel(t *testing.T, v string) *lwm2m.ObjectModel {
	types := map[string]lwm2m.Type{"1.0": lwm2m.TypeString, "1.1": lwm2m.TypeInteger, "2.0": lwm2m.TypeFloat}
	m := &lwm2m.ObjectModel{ID: 26241, Version: parseVersion(t, v), Resources: []lwm2m.ResourceModel{
		{ID: 1, Name: "Reading", Operations: lwm2m.Readable | lwm2m.Writable, Type: types[v]},
		{ID: 2, Operations: lwm2m.Readable, Type: lwm2m.TypeInteger, Multiple: v != "1.0"},
	}}
	if v == "1.0" {
		m.Resources = append(m.Resources, lwm2m.ResourceModel{ID: 3, Operations: lwm2m.Readable, Type: lwm2m.TypeTime})
	}
	return m
}

// TestVersionOfTheDeviceCounts: for reads, writes, observations and Sends in every format.
func TestVersionOfTheDeviceCounts(t *testing.T) {
	models := new(lwm2m.Models)
	for _, v := range []string{"1.0", "1.1", "2.0"} {
		require.NoError(t, models.Add(meterModel(t, v)))
	}
	values := map[string]lwm2m.Value{
		"": lwm2m.String("7"), "1.0": lwm2m.String("7"), "1.1": lwm2m.Integer(7), "1.7": lwm2m.Integer(7), "2.0": lwm2m.Float(7.5),
	}
	reading := lwm2m.NewPath(26241, 0, 1)
	for v, want := range values {
		inWorld(t, lwm2m.ServerConfig{Models: models}, func(t *testing.T, w *world) {
			config := lwm2m.ValueObjectConfig{
				ID: 26241, Version: v, Values: []lwm2m.Entry{{Path: reading, Value: want}},
				Writable: map[uint16]func(lwm2m.Value) error{1: nil},
			}
			if v == "" || v == "1.0" {
				config.Values = append(config.Values, entryOf("/26241/0/2", lwm2m.Integer(1)), entryOf("/26241/0/3", lwm2m.Integer(5)))
			} else {
				config.Values = append(config.Values, entryOf("/26241/0/2/0", lwm2m.Integer(1)))
			}
			client := w.device(func(c *lwm2m.ClientConfig) {
				c.Models = models
				c.Objects = append(c.Objects, lwm2m.NewValueObject(config))
			})
			model, ok := w.server.Model(endpointName, 26241)
			require.True(t, ok)
			require.Equal(t, want.Type(), model.Resources[0].Type)
			for _, f := range []lwm2m.ContentFormat{lwm2m.FormatTLV, lwm2m.FormatText, lwm2m.FormatCBOR, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR} {
				a, err := w.server.Do(t.Context(), lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpRead, Path: reading, Format: &f})
				require.NoError(t, err, "%s in %s", v, f)
				require.Equal(t, want, a.Entries[0].Value, "%s in %s", v, f)
				_, err = w.server.Do(t.Context(), lwm2m.Request{
					Endpoint: endpointName, Operation: lwm2m.OpWrite, Path: reading, Format: &f, Entries: []lwm2m.Entry{{Path: reading, Value: want}},
				})
				require.NoError(t, err, "%s in %s", v, f)
			}
			entries, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(26241, 0))
			require.NoError(t, err)
			require.Contains(t, entries, lwm2m.Entry{Path: reading, Value: want})
			err = w.server.WriteValue(t.Context(), endpointName, reading, lwm2m.Boolean(true))
			require.ErrorIs(t, err, lwm2m.ErrNotEncodable)
			require.ErrorContains(t, err, fmt.Sprintf("Boolean where %s is due", want.Type()))

			w.events.kinds()
			require.NoError(t, client.Send(t.Context(), []lwm2m.Entry{{Path: reading, Value: want}}))
			synctest.Wait()
			w.events.mu.Lock()
			defer w.events.mu.Unlock()
			require.Equal(t, want, w.events.events[0].Entries[0].Value)
		})
	}
}

// TestOnlyInAnOlderVersion: a resource that the newest version lacks has its type for devices with
// the older one.
func TestOnlyInAnOlderVersion(t *testing.T) {
	resources := []lwm2m.ResourceModel{{ID: 1, Type: lwm2m.TypeString}, {ID: 2, Type: lwm2m.TypeTime}}
	models := new(lwm2m.Models)
	require.NoError(t, models.Add(
		&lwm2m.ObjectModel{ID: 26241, Version: version(1, 0), Resources: resources},
		&lwm2m.ObjectModel{ID: 26241, Version: version(1, 1), Resources: resources[:1]},
	))
	for links, want := range map[string]lwm2m.Value{
		"</26241/0>": lwm2m.Time(time.Unix(7, 0)), "</26241>;ver=1.1": lwm2m.Opaque([]byte{7}),
	} {
		view := models.For(lwm2m.Registration{Links: links})
		entries, err := lwm2m.DecodePayload(lwm2m.FormatTLV, lwm2m.NewPath(26241, 0, 2), []byte{0xc1, 2, 7}, view)
		require.NoError(t, err)
		require.Equal(t, want, entries[0].Value, links)
	}
}

// TestModelsAddFuncPanics: a function of AddFunc that panics has no models, and the server goes on.
func TestModelsAddFuncPanics(t *testing.T) {
	models := new(lwm2m.Models)
	models.AddFunc(func(id uint16) []*lwm2m.ObjectModel {
		if id == 3303 {
			panic("no models")
		}
		return nil
	})
	inWorld(t, lwm2m.ServerConfig{Models: models}, func(t *testing.T, w *world) {
		d := w.followable("</3303/0>")
		d.values["/3303/0/5700"] = "21"
		require.Equal(t, "21", w.read("/3303/0/5700"))
		_, ok := w.server.Model(endpointName, 3303)
		require.False(t, ok)
	})
}

// TestImpliedVersionCounts: the version of an object that the device's version of LwM2M implies
// counts for the values of requests and of Sends, as it does for Model.
func TestImpliedVersionCounts(t *testing.T) {
	models := new(lwm2m.Models)
	for v, typ := range map[string]lwm2m.Type{"1.0": lwm2m.TypeInteger, "1.2": lwm2m.TypeString} {
		require.NoError(t, models.Add(&lwm2m.ObjectModel{ID: 4, Version: parseVersion(t, v), Resources: []lwm2m.ResourceModel{
			{ID: 2, Type: typ, Operations: lwm2m.Readable},
		}}))
	}
	for lwm2mVersion, want := range map[string]lwm2m.Value{"1.0": lwm2m.Integer(7), "1.1": lwm2m.String("7")} {
		inWorld(t, lwm2m.ServerConfig{Models: models}, func(t *testing.T, w *world) {
			d := w.followable("</4/0>", "lwm2m="+lwm2mVersion)
			d.values["/4/0/2"] = "7"
			entries, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(4, 0, 2))
			require.NoError(t, err)
			require.Equal(t, want, entries[0].Value)
		})
	}
}
