package lwm2m

import "fmt"

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
	// Unit is the unit of the value as the registry writes it, mostly in the symbols of SenML: "s",
	// "Cel", "dBm"; percent is always "%". "" for none.
	Unit string
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

// check returns what is wrong with a model.
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
