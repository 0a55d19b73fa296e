package lwm2m_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestBuiltinModels compares the built-in models with a readable table.
func TestBuiltinModels(t *testing.T) {
	var m *lwm2m.Models
	var b strings.Builder
	for _, id := range []uint16{0, 1, 3, 5, 9, 33629} {
		for minor := range uint8(4) {
			o, ok := m.Object(id, lwm2m.Version{Major: 1, Minor: minor})
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "%d/%s %s multiple=%t mandatory=%t\n", o.ID, o.Version, o.Name, o.Multiple, o.Mandatory)
			for _, r := range o.Resources {
				unit := ""
				if r.Unit != "" {
					unit = " unit=" + r.Unit
				}
				fmt.Fprintf(&b, "  %d %s [%s] %s multiple=%t mandatory=%t%s\n", r.ID, r.Name, r.Operations, r.Type, r.Multiple, r.Mandatory, unit)
			}
		}
	}
	golden := filepath.Join("testdata", "models.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

func TestModelsLookUp(t *testing.T) {
	var m lwm2m.Models
	o, ok := m.Object(5, lwm2m.Version{})
	require.True(t, ok)
	require.Equal(t, lwm2m.Version{Major: 1, Minor: 2}, o.Version, "the newest")
	_, ok = m.Object(5, lwm2m.Version{Major: 2})
	require.False(t, ok)
	_, ok = m.Object(4242, lwm2m.Version{})
	require.False(t, ok)

	old, _ := m.Object(5, lwm2m.Version{Major: 1})
	cancel := func(r lwm2m.ResourceModel) bool { return r.ID == 10 }
	require.False(t, slices.ContainsFunc(old.Resources, cancel), "Cancel came with 1.1")
	r, ok := m.Resource(lwm2m.NewPath(5, 0, 8, 1))
	require.True(t, ok)
	require.Equal(t, lwm2m.ResourceModel{
		ID: 8, Name: "Firmware Update Protocol Support", Operations: lwm2m.Readable, Type: lwm2m.TypeInteger, Multiple: true,
	}, r)
	require.True(t, r.Operations&lwm2m.Readable != 0)
	require.Zero(t, r.Operations&lwm2m.Writable)
	for _, p := range []lwm2m.Path{{}, lwm2m.NewPath(5, 0), lwm2m.NewPath(5, 0, 4), lwm2m.NewPath(4242, 0, 0)} {
		_, ok = m.Resource(p)
		require.False(t, ok, p)
	}
}

func TestModelsAdd(t *testing.T) {
	var m lwm2m.Models
	mine := func(major uint8, resource string) *lwm2m.ObjectModel {
		return &lwm2m.ObjectModel{
			ID: 26241, Version: lwm2m.Version{Major: major}, Name: "Mine",
			Resources: []lwm2m.ResourceModel{{ID: 0, Name: resource, Type: lwm2m.TypeString}},
		}
	}
	require.NoError(t, m.Add(mine(2, "two"), mine(1, "one"), mine(3, "three")))
	require.NoError(t, m.Add(mine(2, "two, corrected")))
	for v, want := range map[uint8]string{0: "three", 1: "one", 2: "two, corrected", 3: "three"} {
		o, ok := m.Object(26241, lwm2m.Version{Major: v})
		require.True(t, ok)
		require.Equal(t, want, o.Resources[0].Name)
	}

	replaced := &lwm2m.ObjectModel{ID: 5, Version: lwm2m.Version{Major: 1, Minor: 2}, Name: "Replaced"}
	require.NoError(t, m.Add(replaced))
	o, _ := m.Object(5, lwm2m.Version{})
	require.Equal(t, "Replaced", o.Name)
	o, _ = (*lwm2m.Models)(nil).Object(5, lwm2m.Version{})
	require.Equal(t, "Firmware Update", o.Name, "other sets are not touched")

	for name, bad := range map[string]*lwm2m.ObjectModel{
		"reserved object":   {ID: lwm2m.NoID, Version: lwm2m.Version{Major: 1}},
		"no version":        {ID: 1},
		"reserved resource": {ID: 1, Version: lwm2m.Version{Major: 1}, Resources: []lwm2m.ResourceModel{{ID: lwm2m.NoID}}},
		"twice":             {ID: 1, Version: lwm2m.Version{Major: 1}, Resources: []lwm2m.ResourceModel{{ID: 1}, {ID: 1}}},
		"unsorted":          {ID: 1, Version: lwm2m.Version{Major: 1}, Resources: []lwm2m.ResourceModel{{ID: 2}, {ID: 1}}},
	} {
		require.Error(t, m.Add(mine(9, "not added"), bad), name)
	}
	_, ok := m.Object(26241, lwm2m.Version{Major: 9})
	require.False(t, ok)
}

func TestModelsConcurrent(t *testing.T) {
	var m lwm2m.Models
	var wg sync.WaitGroup
	for i := range uint16(8) {
		wg.Go(func() {
			for v := range uint8(20) {
				_ = m.Add(&lwm2m.ObjectModel{ID: 3000 + i%2, Version: lwm2m.Version{Major: 1 + v}, Name: "X"})
				m.Object(3000, lwm2m.Version{})
				m.Resource(lwm2m.NewPath(3000, 0, 0))
			}
		})
	}
	wg.Wait()
}

func TestReadModelXML(t *testing.T) {
	f, err := os.Open(filepath.Join("testdata", "pump.xml"))
	require.NoError(t, err)
	defer f.Close()
	objects, err := lwm2m.ReadModelXML(f)
	require.NoError(t, err)
	require.Equal(t, []*lwm2m.ObjectModel{{
		ID: 26300, Version: lwm2m.Version{Major: 1, Minor: 3}, Name: "Pump Station", Multiple: true,
		Resources: []lwm2m.ResourceModel{
			{ID: 0, Name: "Flow", Operations: lwm2m.Readable, Type: lwm2m.TypeFloat, Mandatory: true, Unit: "l/s"},
			{ID: 1, Name: "Valve Positions", Operations: lwm2m.Readable | lwm2m.Writable, Type: lwm2m.TypeUnsigned, Multiple: true, Unit: "%"},
			{ID: 2, Name: "Flush", Operations: lwm2m.Executable, Type: lwm2m.TypeNone},
			{ID: 7, Name: "Factory Key", Type: lwm2m.TypeOpaque},
		},
	}}, objects)
	var m lwm2m.Models
	require.NoError(t, m.Add(objects...))
	r, ok := m.Resource(lwm2m.NewPath(26300, 4, 1))
	require.True(t, ok)
	require.True(t, r.Multiple)
}

func TestReadModelXMLRefuses(t *testing.T) {
	good, err := os.ReadFile(filepath.Join("testdata", "pump.xml"))
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty":             "",
		"no object":         "<LWM2M></LWM2M>",
		"other root":        "<Objects/>",
		"truncated":         string(good[:len(good)-20]),
		"text after":        string(good) + "x",
		"element after":     string(good) + "<a/>",
		"object id":         strings.Replace(string(good), "26300", "65535", 1),
		"object id text":    strings.Replace(string(good), "<ObjectID>26300", "<ObjectID>x", 1),
		"version":           strings.Replace(string(good), "<ObjectVersion>1.3", "<ObjectVersion>1", 1),
		"resource id":       strings.Replace(string(good), `ID="7"`, `ID="-7"`, 1),
		"resource twice":    strings.Replace(string(good), `ID="7"`, `ID="0"`, 1),
		"type":              strings.Replace(string(good), "Float", "Double", 1),
		"operations":        strings.Replace(string(good), "<Operations>RW", "<Operations>WR", 1),
		"multiple":          strings.Replace(string(good), "<MultipleInstances>Multiple", "<MultipleInstances>Many", 1),
		"mandatory missing": strings.Replace(string(good), "<Mandatory>Optional</Mandatory>", "", 1),
		"name missing":      strings.Replace(string(good), "<Name>Flow</Name>", "", 1),
		"too large":         "<!--" + strings.Repeat("x", lwm2m.MaxModelXML) + "-->" + string(good),
	} {
		_, err := lwm2m.ReadModelXML(strings.NewReader(text))
		require.Error(t, err, name)
	}
}

func FuzzReadModelXML(f *testing.F) {
	good, err := os.ReadFile(filepath.Join("testdata", "pump.xml"))
	require.NoError(f, err)
	f.Add(string(good))
	f.Add("<LWM2M><Object><ObjectID>1</ObjectID></Object></LWM2M>")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := lwm2m.ReadModelXML(strings.NewReader(text))
		if err == nil {
			require.NoError(t, new(lwm2m.Models).Add(objects...))
		}
	})
}
