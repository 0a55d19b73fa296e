package lwm2m

// A modelView is a set of models as one device counts: see [Models].
type modelView struct {
	models *Models // not nil
	device lister  // nil for none: the newest versions count
}

// A lister knows which versions of objects a device has.
type lister interface {
	// versionOf returns the version of an object: 1.0 with named false if the device does not say,
	// the zero Version if it does not have the object.
	versionOf(object uint16) (v Version, named bool)
}

// view returns m, which may be nil, as a view.
func (m *Models) view() modelView {
	switch {
	case m == nil:
		return modelView{models: &noModels}
	case m.of != nil:
		return *m.of
	default:
		return modelView{models: m}
	}
}

// choose returns the model that counts for the device.
func (v modelView) choose(found *objectVersions, id uint16) *ObjectModel {
	version, named := v.device.versionOf(id)
	if version.isZero() {
		return found.newest()
	}
	o := found.nearest(version)
	if !named && o.Version.Major != version.Major {
		return found.newest()
	}
	return o
}

// object returns a model that has the right types for the values of an object, nil if there is
// none. It asks for the device's version only if that matters, as listers read the whole list of
// objects.
func (v modelView) object(id uint16) *ObjectModel {
	found := v.models.find(id)
	switch {
	case found == nil:
		return nil
	case found.alike || v.device == nil:
		return found.newest()
	default:
		return v.choose(found, id)
	}
}

// resource returns the model of the resource at or above path, nil if there is none.
func (v modelView) resource(path Path) *ResourceModel {
	if path.Len() < 3 {
		return nil
	}
	if o := v.object(path.Object()); o != nil {
		return o.find(path.Resource())
	}
	return nil
}

// multiple reports whether the model says that the resource of path has instances.
func (v modelView) multiple(path Path) bool {
	r := v.resource(path)
	return r != nil && r.Multiple
}

// typeLookup finds the types of resources, and remembers the object's model from one path to the
// next.
type typeLookup struct {
	view   modelView
	object *ObjectModel
	id     uint16
	known  bool
}

// typeOf returns the type of the resource at or above path, TypeNone if it is not known.
func (l *typeLookup) typeOf(path Path) Type {
	if path.Len() < 3 {
		return TypeNone
	}
	if !l.known || l.id != path.Object() {
		l.object = l.view.object(path.Object())
		l.id, l.known = path.Object(), true
	}
	if l.object == nil {
		return TypeNone
	}
	if r := l.object.find(path.Resource()); r != nil {
		return r.Type
	}
	return TypeNone
}

// A listing is the list of objects of a registration.
type listing struct {
	objects ObjectList
	lwm2m   Version
}

func (l *listing) versionOf(id uint16) (v Version, named bool) {
	o, ok := l.objects.object(id)
	switch {
	case !ok:
		return Version{}, false
	case !o.Version.isZero():
		return o.Version, true
	default:
		return impliedVersion(l.lwm2m, id), false
	}
}

// versionOf makes the registration of a device the lister of its requests.
func (ss *session) versionOf(id uint16) (v Version, named bool) {
	list, err := parseObjectList([]byte(ss.links.String()))
	if err != nil {
		return Version{}, false
	}
	return (&listing{objects: list, lwm2m: ss.lwm2m}).versionOf(id)
}

// impliedVersion returns the version of an object that a device has if it names none: 1.0, or the
// one that its version of LwM2M defines (Core specification 1.1, as Leshan reads it, and 1.2,
// appendix E).
func impliedVersion(lwm2m Version, id uint16) Version {
	v := Version{Major: 1}
	switch {
	case lwm2m.Minor == 1:
		v.Minor = map[uint16]uint8{0: 1, 1: 1, 3: 1, 4: 2}[id]
	case lwm2m.Minor >= 2 && id == 21:
		v.Major = 2
	case lwm2m.Minor >= 2:
		v.Minor = map[uint16]uint8{0: 2, 1: 2, 2: 1, 3: 2, 4: 3, 5: 1}[id]
	}
	return v
}
