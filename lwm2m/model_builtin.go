package lwm2m

import "sync"

// The built-in models, as tables with the data of the registry of objects: identifiers, names,
// operations, types, and the version that introduced a resource.

// builtinObject is an object in versions 1.0 to 1.minor.
type builtinObject struct {
	id        uint16
	name      string
	minor     uint8
	multiple  bool
	mandatory bool
	resources []builtinResource
}

// builtinResource is a resource that exists since version 1.since.
type builtinResource struct {
	id    uint16
	since uint8
	name  string
	ops   Operations
	typ   Type
	flags uint8
}

const (
	multiple  = 1 << 0
	mandatory = 1 << 1

	rw = Readable | Writable
)

// builtinModels returns the built-in models by object, each in the order of versions.
var builtinModels = sync.OnceValue(func() map[uint16][]*ObjectModel {
	all := make(map[uint16][]*ObjectModel, len(builtinObjects))
	for _, o := range builtinObjects {
		for minor := range o.minor + 1 {
			all[o.id] = append(all[o.id], o.model(minor))
		}
	}
	return all
})

// builtinUnits are the units of resources, by object and resource.
var builtinUnits = map[[2]uint16]string{
	{0, 11}: "s", {0, 12}: "s",
	{1, 1}: "s", {1, 2}: "s", {1, 3}: "s", {1, 5}: "s", {1, 14}: "s", {1, 18}: "s", {1, 19}: "s",
	{3, 7}: "mV", {3, 8}: "mA", {3, 9}: "%", {3, 10}: "KB", {3, 21}: "KB",
	{5, 13}:     "s",
	{33629, 13}: "s",
}

func (o *builtinObject) model(minor uint8) *ObjectModel {
	m := &ObjectModel{
		ID: o.id, Version: Version{Major: 1, Minor: minor}, Name: o.name,
		Multiple: o.multiple, Mandatory: o.mandatory,
	}
	for _, r := range o.resources {
		if r.since > minor {
			continue
		}
		ops := r.ops
		if o.id == 1 && minor == 1 && r.id >= 13 && r.id <= 20 {
			ops = 0 // Server 1.2 opened these to device management
		}
		m.Resources = append(m.Resources, ResourceModel{
			ID: r.id, Name: r.name, Operations: ops, Type: r.typ,
			Multiple: r.flags&multiple != 0, Mandatory: r.flags&mandatory != 0,
			Unit: builtinUnits[[2]uint16{o.id, r.id}],
		})
	}
	return m
}
