// Command gen writes the table of package oma from a copy of the OMA registry of objects:
//
//	go run ./lwm2m/oma/internal/gen DIR
//
// DIR is a checkout of https://github.com/OpenMobileAlliance/lwm2m-registry. Run it in the root of
// this module. It writes lwm2m/oma/objects.txt.
package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/otago-iot/otago/lwm2m"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: go run ./lwm2m/oma/internal/gen DIR")
	}
	objects, err := read(os.DirFS(os.Args[1]))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join("lwm2m", "oma", "objects.txt"), table(objects), 0o644)
}

// read returns all versions of all objects, sorted, without those that every lwm2m.Models has.
func read(registry fs.FS) ([]*lwm2m.ObjectModel, error) {
	type key struct {
		id      uint16
		version lwm2m.Version
	}
	all := map[key]*lwm2m.ObjectModel{}
	for _, pattern := range []string{"*.xml", "version_history/*.xml"} {
		files, err := fs.Glob(registry, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			if slices.Contains([]string{"Common.xml", "DDF.xml", "LWM2M_senml_units.xml"}, name) {
				continue // no objects
			}
			data, err := fs.ReadFile(registry, name)
			if err != nil {
				return nil, err
			}
			models, err := lwm2m.ReadModelXML(bytes.NewReader(data))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, m := range models {
				k := key{m.ID, m.Version}
				if before, ok := all[k]; ok && !reflect.DeepEqual(before, m) {
					return nil, fmt.Errorf("%s: differs from another file of object %d version %s", name, m.ID, m.Version)
				}
				all[k] = m
			}
		}
	}
	var objects []*lwm2m.ObjectModel
	for k, m := range all {
		builtin, ok := (*lwm2m.Models)(nil).Object(k.id, k.version)
		if !ok {
			objects = append(objects, m)
			continue
		}
		if a, b := facts(builtin), facts(m); a != b {
			return nil, fmt.Errorf("object %d version %s: the built-in model is\n%s\nthe registry's is\n%s", k.id, k.version, a, b)
		}
	}
	slices.SortFunc(objects, func(a, b *lwm2m.ObjectModel) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Version.Compare(b.Version))
	})
	return objects, nil
}

// facts returns what the built-in models and the registry must agree on. Names are not among it,
// which the registry spells in several ways, nor units, of which it lacks some in later versions.
func facts(m *lwm2m.ObjectModel) string {
	same := *m
	same.Name = ""
	same.Resources = slices.Clone(m.Resources)
	for i := range same.Resources {
		same.Resources[i].Name, same.Resources[i].Unit = "", ""
	}
	return fmt.Sprintf("%+v", same)
}

// table returns the table: see the documentation of package oma's parser.
func table(objects []*lwm2m.ObjectModel) []byte {
	var b bytes.Buffer
	var before *lwm2m.ObjectModel
	for _, o := range objects {
		if before == nil || before.ID != o.ID {
			fmt.Fprintf(&b, "/%d\n", o.ID)
			before = &lwm2m.ObjectModel{}
		}
		fmt.Fprintf(&b, "=%s %s %s\n", o.Version, cmp.Or(flags(o.Multiple, o.Mandatory), "-"), o.Name)
		for _, r := range o.Resources {
			if !slices.Contains(before.Resources, r) {
				fmt.Fprintf(&b, "%d %s%s%s %s %s\n", r.ID, r.Operations, letters[r.Type], flags(r.Multiple, r.Mandatory), cmp.Or(r.Unit, "-"), r.Name)
			}
		}
		for _, r := range before.Resources {
			if !slices.ContainsFunc(o.Resources, func(n lwm2m.ResourceModel) bool { return n.ID == r.ID }) {
				fmt.Fprintf(&b, "%d\n", r.ID)
			}
		}
		before = o
	}
	return b.Bytes()
}

var letters = map[lwm2m.Type]string{
	lwm2m.TypeNone: "", lwm2m.TypeString: "s", lwm2m.TypeInteger: "i", lwm2m.TypeUnsigned: "u", lwm2m.TypeFloat: "f",
	lwm2m.TypeBoolean: "b", lwm2m.TypeOpaque: "o", lwm2m.TypeTime: "t", lwm2m.TypeObjectLink: "l", lwm2m.TypeCoreLink: "c",
}

// flags returns the marks of what may occur several times, and of what is mandatory.
func flags(multiple, mandatory bool) string {
	s := ""
	if multiple {
		s += "*"
	}
	if mandatory {
		s += "!"
	}
	return s
}
