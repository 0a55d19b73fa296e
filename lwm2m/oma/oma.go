// Package oma has the models of all objects of the OMA registry, in all their versions: names,
// types, operations and units of resources, for values by name and for devices whose values come in
// TLV or text, which carry no types:
//
//	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Models: oma.Models()})
//
// A program that imports the package grows by 120 KB; one that does not links nothing of it. An
// object costs no memory until it is looked up.
//
// # Source
//
// The table is generated from https://github.com/OpenMobileAlliance/lwm2m-registry, as of commit
// b62ffc2 of 2024-02-22: 327 objects, 424 versions. It has only facts: identifiers, names, types,
// operations, units, and what is multiple or mandatory; no descriptions. The files of the registry
// are Copyright Open Mobile Alliance and those who registered the objects, most of them under the
// BSD-3-Clause license, some under the Apache License 2.0; NOTICE has the former's text. An object
// that is newer can be added with [lwm2m.ReadModelXML] and [lwm2m.Models.Add].
package oma

import (
	_ "embed"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"

	"github.com/otago-iot/otago/lwm2m"
)

// Models returns a new set with the built-in models and those of the registry, to which a program
// can add its own.
func Models() *lwm2m.Models {
	m := new(lwm2m.Models)
	m.AddFunc(versions)
	return m
}

// The table has a line "/ID" for each object, and below it, for each version in ascending order,
//
//	=VERSION FLAGS NAME
//
// and a line for each resource that is not the same in the version before, in the order of
// identifiers, and then one with the identifier alone for each resource that is gone:
//
//	ID CODE UNIT NAME
//
// CODE is the operations (R, W, RW, E or none), the letter of the type and FLAGS: * for multiple,
// ! for mandatory. "-" stands for no FLAGS of an object and for no UNIT. The objects that every
// Models has built in are left out. Command internal/gen writes the table.
//
//go:embed objects.txt
var table string

// An entry says where the lines of an object begin and end in the table.
type entry struct {
	id         uint16
	start, end int
}

// index returns the entries of the table, sorted.
var index = sync.OnceValue(func() (all []entry) {
	for end := 0; end < len(table); {
		header, _, _ := strings.Cut(table[end:], "\n")
		id, err := strconv.ParseUint(header[1:], 10, 16)
		must(err)
		start := end + len(header) + 1
		if next := strings.Index(table[start:], "\n/"); next >= 0 {
			end = start + next + 1
		} else {
			end = len(table)
		}
		all = append(all, entry{uint16(id), start, end})
	}
	return all
})

// versions returns the models of an object. Their names are parts of the table.
func versions(object uint16) []*lwm2m.ObjectModel {
	all := index()
	i := sort.Search(len(all), func(i int) bool { return all[i].id >= object })
	if i == len(all) || all[i].id != object {
		return nil
	}
	var models []*lwm2m.ObjectModel
	var m *lwm2m.ObjectModel
	for line := range strings.Lines(table[all[i].start:all[i].end]) {
		line = strings.TrimSuffix(line, "\n")
		if header, ok := strings.CutPrefix(line, "="); ok {
			next := &lwm2m.ObjectModel{ID: object}
			if m != nil {
				next.Resources = append(next.Resources, m.Resources...)
			}
			m = next
			models = append(models, m)
			readVersion(m, header)
			continue
		}
		readResource(m, line)
	}
	return models
}

// readVersion reads "VERSION FLAGS NAME".
func readVersion(m *lwm2m.ObjectModel, line string) {
	version, rest, _ := strings.Cut(line, " ")
	flags, name, _ := strings.Cut(rest, " ")
	var err error
	m.Version, err = lwm2m.ParseVersion(version)
	must(err)
	m.Name, m.Multiple, m.Mandatory = name, strings.Contains(flags, "*"), strings.Contains(flags, "!")
}

// readResource reads "ID CODE UNIT NAME" or "ID".
func readResource(m *lwm2m.ObjectModel, line string) {
	id, rest, found := strings.Cut(line, " ")
	n, err := strconv.ParseUint(id, 10, 16)
	must(err)
	i := sort.Search(len(m.Resources), func(i int) bool { return m.Resources[i].ID >= uint16(n) })
	known := i < len(m.Resources) && m.Resources[i].ID == uint16(n)
	if !found {
		m.Resources = append(m.Resources[:i], m.Resources[i+1:]...)
		return
	}
	code, rest, _ := strings.Cut(rest, " ")
	unit, name, _ := strings.Cut(rest, " ")
	r := lwm2m.ResourceModel{ID: uint16(n), Name: name, Unit: strings.TrimPrefix(unit, "-")}
	for _, c := range []byte(code) {
		switch c {
		case 'R':
			r.Operations |= lwm2m.Readable
		case 'W':
			r.Operations |= lwm2m.Writable
		case 'E':
			r.Operations |= lwm2m.Executable
		case '*':
			r.Multiple = true
		case '!':
			r.Mandatory = true
		default:
			r.Type = types[c]
		}
	}
	if !known {
		m.Resources = append(m.Resources, lwm2m.ResourceModel{})
		copy(m.Resources[i+1:], m.Resources[i:])
	}
	m.Resources[i] = r
}

var types = map[byte]lwm2m.Type{
	's': lwm2m.TypeString, 'i': lwm2m.TypeInteger, 'u': lwm2m.TypeUnsigned, 'f': lwm2m.TypeFloat, 'b': lwm2m.TypeBoolean,
	'o': lwm2m.TypeOpaque, 't': lwm2m.TypeTime, 'l': lwm2m.TypeObjectLink, 'c': lwm2m.TypeCoreLink,
}

// must is for what the generator wrote, and a test reads.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("oma: objects.txt: %v", err))
	}
}
