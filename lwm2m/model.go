package lwm2m

import (
	"fmt"
	"slices"
	"sync"
)

// Operations is the set of operations that a resource's model allows.
type Operations uint8

// The operations on resources. Zero means that only bootstrap and the device itself touch the
// resource.
const (
	Readable Operations = 1 << iota
	Writable
	Executable
)

// has reports whether every operation of o is allowed.
func (ops Operations) has(o Operations) bool { return ops&o == o }

// String returns the letters of the registry: R, W, RW, E.
func (ops Operations) String() string {
	var s string
	for i, letter := range [...]string{"R", "W", "E"} {
		if ops.has(1 << i) {
			s += letter
		}
	}
	return s
}

// ResourceModel describes a resource of an object.
type ResourceModel struct {
	ID         uint16
	Name       string
	Operations Operations
	Type       Type // TypeNone for a resource that is only executed
	Multiple   bool
	Mandatory  bool
}

// ObjectModel describes one version of an object. Do not change it after [Models.Add].
type ObjectModel struct {
	ID        uint16
	Version   Version
	Name      string
	Multiple  bool
	Mandatory bool
	Resources []ResourceModel // sorted by ID
}

// resource returns the model of resource id.
func (o *ObjectModel) resource(id uint16) (ResourceModel, bool) {
	if r := o.find(id); r != nil {
		return *r, true
	}
	return ResourceModel{}, false
}

func (o *ObjectModel) find(id uint16) *ResourceModel {
	low, high := 0, len(o.Resources)
	for low < high {
		if i := (low + high) / 2; o.Resources[i].ID < id {
			low = i + 1
		} else {
			high = i
		}
	}
	if low < len(o.Resources) && o.Resources[low].ID == id {
		return &o.Resources[low]
	}
	return nil
}

// Models is a set of object models. The zero value and a nil *Models hold the built-in ones: the
// objects 0 Security, 1 Server, 3 Device, 5 Firmware Update (versions 1.0, 1.1 and 1.2), 9 Software
// Management and 33629 Advanced Firmware Update. Models is safe for concurrent use.
type Models struct {
	mu    sync.RWMutex
	added map[uint16][]*ObjectModel // each sorted by version
}

// Add puts object models into the set. They replace models of the same object and version, built-in
// ones too. If a model has reserved, unsorted or duplicate identifiers, Add returns an error and
// adds nothing.
func (m *Models) Add(objects ...*ObjectModel) error {
	for _, o := range objects {
		if err := o.check(); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.added == nil {
		m.added = make(map[uint16][]*ObjectModel)
	}
	for _, o := range objects {
		m.added[o.ID] = insertModel(m.added[o.ID], o)
	}
	return nil
}

func insertModel(versions []*ObjectModel, o *ObjectModel) []*ObjectModel {
	i, found := slices.BinarySearchFunc(versions, o.Version, func(x *ObjectModel, v Version) int {
		return x.Version.Compare(v)
	})
	if found {
		versions[i] = o
		return versions
	}
	return slices.Insert(versions, i, o)
}

func (o *ObjectModel) check() error {
	if o.ID == NoID || o.Version.isZero() {
		return fmt.Errorf("lwm2m: model of object %d version %s is not usable", o.ID, o.Version)
	}
	for i, r := range o.Resources {
		if r.ID == NoID || i > 0 && r.ID <= o.Resources[i-1].ID {
			return fmt.Errorf("lwm2m: model of object %d: resource %d is reserved or out of order", o.ID, r.ID)
		}
	}
	return nil
}

// Object returns the model of object id in version v; the zero Version stands for the newest
// version that is known. The model is shared and must not be changed.
func (m *Models) Object(id uint16, v Version) (*ObjectModel, bool) {
	var best *ObjectModel
	if m != nil {
		m.mu.RLock()
		best = pickModel(m.added[id], v)
		m.mu.RUnlock()
	}
	// At equal versions the added model wins over the built-in one.
	if b := pickModel(builtinModels()[id], v); b != nil && (best == nil || b.Version.Compare(best.Version) > 0) {
		best = b
	}
	return best, best != nil
}

func pickModel(versions []*ObjectModel, v Version) *ObjectModel {
	if len(versions) == 0 {
		return nil
	}
	if v.isZero() {
		return versions[len(versions)-1]
	}
	for _, o := range versions {
		if o.Version == v {
			return o
		}
	}
	return nil
}

// Resource returns the model of the resource at or above path, in the newest version of its object
// that is known.
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
