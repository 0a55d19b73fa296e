package lwm2m

import (
	"log/slog"
	"slices"
	"sync"

	"github.com/otago-iot/otago/internal/work"
)

// Models is a set of object models. The zero value and a nil *Models hold the built-in ones: the
// objects 0 Security, 1 Server, 3 Device, 5 Firmware Update (versions 1.0, 1.1 and 1.2), 9 Software
// Management and 33629 Advanced Firmware Update. Package lwm2m/oma has all objects of the registry,
// and [ReadModelXML] reads others. Models is safe for concurrent use.
//
// A set may have several versions of an object. Of those the version counts that a device
// registered, 1.0 if it named none. If the set does not have it, the nearest lower version of the
// same major version counts, which a newer one only extends; else the nearest higher one of it;
// else the nearest lower, and then the nearest higher version of all. A device that names no
// version of an object that the set has no 1.x of has the newest. See [Models.For].
type Models struct {
	mu    sync.RWMutex
	added []*ObjectModel                       // later ones replace earlier ones
	funcs []func(object uint16) []*ObjectModel // of AddFunc
	known map[uint16]*objectVersions           // that were looked up; nil for an object without models

	of *modelView // if For returned the set
}

// objectVersions are the models of one object.
type objectVersions struct {
	sorted []*ObjectModel // by version
	// alike: the newest model has all resources of the others, with the same type and instances.
	alike bool
}

// noModels is the set of those who have none of their own.
var noModels Models

// Add puts object models into the set. They replace models of the same object and version, built-in
// ones too. If a model has reserved, unsorted or duplicate identifiers, Add returns an error and
// adds nothing. Into a set that [Models.For] returned, Add puts them for all devices.
func (m *Models) Add(objects ...*ObjectModel) error {
	for _, o := range objects {
		if err := o.check(); err != nil {
			return err
		}
	}
	if m.of != nil {
		return m.of.models.Add(objects...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.added = append(m.added, objects...)
	m.known = nil
	return nil
}

// AddFunc adds a source of models that are made only when they are needed: f returns the versions
// of an object, none if it does not have it. The set calls f once for each object that is looked
// up, perhaps again after an Add, and from several goroutines. f must be quick. If f panics,
// [slog.Default] logs that, and f has no models of the object. Models that [Models.Add] would
// refuse, and those of another object, are left out. The others replace built-in models and those
// of earlier functions; models of Add replace them.
func (m *Models) AddFunc(f func(object uint16) []*ObjectModel) {
	if m.of != nil {
		m.of.models.AddFunc(f)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.funcs = append(m.funcs, f)
	m.known = nil
}

// find returns the versions of an object, nil if there are none.
func (m *Models) find(id uint16) *objectVersions {
	m.mu.RLock()
	found, ok := m.known[id]
	added, funcs := m.added, m.funcs
	m.mu.RUnlock()
	if ok {
		return found
	}
	versions := slices.Clone(builtinModels()[id])
	for _, f := range funcs {
		for _, o := range askForModels(f, id) {
			if o != nil && o.check() == nil {
				versions = insertModel(versions, id, o)
			}
		}
	}
	for _, o := range added {
		versions = insertModel(versions, id, o)
	}
	if len(versions) > 0 {
		found = &objectVersions{sorted: versions, alike: alike(versions)}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(added) != len(m.added) || len(funcs) != len(m.funcs) {
		return found // Add was called meanwhile
	}
	if before, ok := m.known[id]; ok {
		return before
	}
	if m.known == nil {
		m.known = make(map[uint16]*objectVersions)
	}
	m.known[id] = found
	return found
}

// askForModels calls a function of AddFunc.
func askForModels(f func(uint16) []*ObjectModel, id uint16) []*ObjectModel {
	models, _ := work.Guard(slog.Default(), "Models.AddFunc", func() ([]*ObjectModel, error) { return f(id), nil })
	return models
}

// insertModel puts a model of object id into versions, in place of one of the same version.
func insertModel(versions []*ObjectModel, id uint16, o *ObjectModel) []*ObjectModel {
	if o.ID != id {
		return versions
	}
	i, found := slices.BinarySearchFunc(versions, o.Version, func(x *ObjectModel, v Version) int {
		return x.Version.Compare(v)
	})
	if found {
		versions[i] = o
		return versions
	}
	return slices.Insert(versions, i, o)
}

// alike reports whether values of all versions can be read and written by the model of the newest.
func alike(versions []*ObjectModel) bool {
	newest := versions[len(versions)-1]
	for _, o := range versions[:len(versions)-1] {
		for i := range o.Resources {
			r := &o.Resources[i]
			if n := newest.find(r.ID); n == nil || n.Type != r.Type || n.Multiple != r.Multiple {
				return false
			}
		}
	}
	return true
}

// exact returns the model of version v, nil if there is none.
func (o *objectVersions) exact(v Version) *ObjectModel {
	for _, m := range o.sorted {
		if m.Version == v {
			return m
		}
	}
	return nil
}

// newest returns the model of the newest version.
func (o *objectVersions) newest() *ObjectModel { return o.sorted[len(o.sorted)-1] }

// nearest returns the model that counts for version v: see [Models].
func (o *objectVersions) nearest(v Version) *ObjectModel {
	best := o.sorted[0]
	for _, m := range o.sorted[1:] {
		same, was := m.Version.Major == v.Major, best.Version.Major == v.Major
		switch {
		case same != was:
			if same {
				best = m
			}
		case m.Version.Compare(v) <= 0:
			best = m // sorted: nearer than one before
		}
	}
	return best
}

// Object returns the model of object id in version v, and false if the set does not have that
// version. The zero Version stands for the newest, and in a set that [Models.For] returned for the
// version that counts for the device. The model is shared and must not be changed.
func (m *Models) Object(id uint16, v Version) (*ObjectModel, bool) {
	view := m.view()
	found := view.models.find(id)
	switch {
	case found == nil:
		return nil, false
	case !v.isZero():
		o := found.exact(v)
		return o, o != nil
	case view.device != nil:
		return view.choose(found, id), true
	default:
		return found.newest(), true
	}
}

// Resource returns the model of the resource at or above path, in the version of its object that
// [Models.Object] returns for the zero Version.
func (m *Models) Resource(path Path) (ResourceModel, bool) {
	if path.Len() < 3 {
		return ResourceModel{}, false
	}
	o, ok := m.Object(path.Object(), Version{})
	if !ok {
		return ResourceModel{}, false
	}
	return o.resource(path.Resource())
}

// For returns the set for the values of one device: [AppendPayload], [DecodePayload] and the zero
// Version of [Models.Object] use the versions of objects that its registration lists. The server
// does the same for its requests. Later models of m count too.
func (m *Models) For(r Registration) *Models {
	return &Models{of: &modelView{models: m.view().models, device: &listing{objects: r.Objects(), lwm2m: r.Version}}}
}
