package main

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// object returns a file of the registry with one object.
func object(id, version string, items ...string) *fstest.MapFile {
	text := `<LWM2M><Object><Name>Pump</Name><ObjectID>` + id + `</ObjectID><ObjectVersion>` + version + `</ObjectVersion>
<MultipleInstances>Multiple</MultipleInstances><Mandatory>Optional</Mandatory><Resources>` + strings.Join(items, "") + `</Resources></Object></LWM2M>`
	return &fstest.MapFile{Data: []byte(text)}
}

func item(id, name, operations, typ, unit string) string {
	return `<Item ID="` + id + `"><Name>` + name + `</Name><Operations>` + operations + `</Operations>
<MultipleInstances>Single</MultipleInstances><Mandatory>Mandatory</Mandatory><Type>` + typ + `</Type><Units>` + unit + `</Units></Item>`
}

// TestTable: each version has only the lines that are new, and files of one version must agree.
func TestTable(t *testing.T) {
	flow, flush := item("7", "Flow", "R", "Float", "l/s"), item("2", "Flush", "E", "", "")
	registry := fstest.MapFS{
		"26241.xml":                     object("26241", "1.1", flow, item("3", "Level", "RW", "Integer", "/100")),
		"version_history/26241-1_0.xml": object("26241", "", flush, flow),
		"version_history/26241-1_1.xml": object("26241", "1.1", flow, item("3", "Level", "RW", "Integer", "%")),
		"DDF.xml":                       {Data: []byte("<DDFList/>")},
	}
	objects, err := read(registry)
	require.NoError(t, err)
	require.Equal(t, "/26241\n=1.0 * Pump\n2 E! - Flush\n7 Rf! l/s Flow\n=1.1 * Pump\n3 RWi! % Level\n2\n", string(table(objects)))

	registry["version_history/26241-1_1.xml"] = object("26241", "1.1", flow)
	_, err = read(registry)
	require.ErrorContains(t, err, "differs from another file of object 26241 version 1.1")
	registry["version_history/26241-1_1.xml"] = object("5", "1.0", flow)
	_, err = read(registry)
	require.ErrorContains(t, err, "the built-in model is")
	registry["bad.xml"] = object("26241", "x")
	_, err = read(registry)
	require.ErrorContains(t, err, "bad.xml")
}
