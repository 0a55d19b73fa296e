package lwm2m

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// ObjectList is the payload of a registration: the objects and instances of a client (Core
// specification, Register).
type ObjectList struct {
	// Root is the path that prefixes every LwM2M path on this client, such as "/lwm2m"; "" on
	// nearly all clients.
	Root string
	// Formats are the content formats that the client says it supports beyond the mandatory ones
	// (attribute ct of the root), nil if it says none.
	Formats []ContentFormat
	// Objects are sorted by ID.
	Objects []ListedObject
}

// ListedObject is an object of an [ObjectList].
type ListedObject struct {
	ID uint16
	// Version is zero when the client gave none, which means 1.0.
	Version Version
	// Instances are sorted; none when the object is supported without one.
	Instances []uint16
}

// maxListed bounds how many objects and instances a registration may list.
const maxListed = 4096

// parseObjectList reads the payload of a Register or an Update. It accepts what devices in the
// field write, as long as it is unambiguous: blanks between links, NUL or a comma at the end, ct=60
// 110 without quotes, ver=1. A link to a resource also lists its instance; a version that cannot be
// read counts as none. Links that are not LwM2M paths below the root are skipped: a device may list
// other resources too. Errors are [*FormatError].
func parseObjectList(payload []byte) (ObjectList, error) {
	links, err := parseLooseLinks(trimLinks(payload))
	if err != nil {
		return ObjectList{}, err
	}
	var list ObjectList
	for _, l := range links {
		if rt, ok := l.attribute("rt"); ok && hasField(rt.Value, "oma.lwm2m") {
			list.Root = strings.TrimRight(l.Target, "/")
			list.Formats = parseFormats(l)
		} else if l.Target == "/" { // some clients omit rt
			list.Formats = parseFormats(l)
		}
	}
	for _, l := range list.collect(links) {
		list.add(l)
	}
	return list, nil
}

func hasField(s, want string) bool {
	return slices.ContainsFunc(strings.Fields(s), func(field string) bool { return strings.EqualFold(field, want) })
}

// listedPath is a link that names an object or an object instance.
type listedPath struct {
	path    Path
	version Version
}

// collect returns the links that are LwM2M paths, in the order of paths. Several links of one path
// stay in their order.
func (l *ObjectList) collect(links []coreLink) []listedPath {
	listed := make([]listedPath, 0, len(links))
	for _, link := range links {
		s, ok := strings.CutPrefix(link.Target, l.Root+"/")
		if !ok {
			continue
		}
		path, ok := parsePath(strings.TrimRight(s, "/"))
		if !ok || path.IsRoot() {
			continue
		}
		p := listedPath{path: path.Prefix(min(path.Len(), 2))}
		if ver, ok := link.attribute("ver"); ok && path.Len() <= 2 {
			p.version, _ = parseLooseVersion(ver.Value)
		}
		listed = append(listed, p)
	}
	slices.SortStableFunc(listed, func(a, b listedPath) int { return a.path.Compare(b.path) })
	return listed
}

// parseLooseVersion reads a version as devices write it: also 1 for 1.0, and with a third part,
// which it drops.
func parseLooseVersion(s string) (Version, error) {
	s = strings.Trim(s, blanks+`"'`)
	parts := strings.Split(s, ".")
	switch len(parts) {
	case 1:
		return ParseVersion(s + ".0")
	case 3:
		if _, err := strconv.ParseUint(parts[2], 10, 16); err == nil {
			return ParseVersion(parts[0] + "." + parts[1])
		}
	}
	return ParseVersion(s)
}

// add adds the next path, in ascending order.
func (l *ObjectList) add(p listedPath) {
	last := len(l.Objects) - 1
	if last < 0 || l.Objects[last].ID != p.path.Object() {
		l.Objects = append(l.Objects, ListedObject{ID: p.path.Object()})
		last++
	}
	o := &l.Objects[last]
	o.Version = cmp.Or(o.Version, p.version) // some devices give it with the instance, which comes after the object
	if p.path.IsObject() {
		return
	}
	if n := len(o.Instances); n == 0 || o.Instances[n-1] != p.path.Instance() {
		o.Instances = append(o.Instances, p.path.Instance())
	}
}

// parseFormats reads the attributes ct, each one number or a list. It skips what is not a number.
func parseFormats(l coreLink) (formats []ContentFormat) {
	for _, a := range l.Attributes {
		if a.Name != "ct" {
			continue
		}
		for _, s := range strings.FieldsFunc(a.Value, func(r rune) bool { return strings.ContainsRune(blanks+`,'"`, r) }) {
			n, err := strconv.ParseUint(s, 10, 16)
			if f := ContentFormat(n); err == nil && !slices.Contains(formats, f) {
				formats = append(formats, f)
			}
		}
	}
	return formats
}

func (l ObjectList) search(id uint16) (int, bool) {
	return slices.BinarySearchFunc(l.Objects, id, func(o ListedObject, id uint16) int {
		return int(o.ID) - int(id)
	})
}

// object returns the listed object with the given id.
func (l ObjectList) object(id uint16) (ListedObject, bool) {
	i, found := l.search(id)
	if !found {
		return ListedObject{}, false
	}
	return l.Objects[i], true
}

// Has reports whether the list has the object, or the object instance, that p names or lies below.
// It is true for the root.
func (l ObjectList) Has(p Path) bool {
	if p.IsRoot() {
		return true
	}
	o, ok := l.object(p.Object())
	return ok && (p.IsObject() || slices.Contains(o.Instances, p.Instance()))
}

// Version returns the version of object id, 1.0 if the client gave none, and the zero Version if
// the client does not have the object.
func (l ObjectList) Version(id uint16) Version {
	o, ok := l.object(id)
	if ok && o.Version.isZero() {
		return Version{Major: 1}
	}
	return o.Version
}

// appendTo appends the list in the core link format, as a Register carries it, to dst: the root
// link if it is not empty, an object link for objects with a version other than 1.0 or without
// instances, and instance links.
func (l ObjectList) appendTo(dst []byte) []byte {
	start := len(dst)
	open := func(p Path) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(dst, '<')
		dst = append(dst, l.Root...)
		if !p.IsRoot() || l.Root == "" {
			dst = p.appendTo(dst)
		}
		dst = append(dst, '>')
	}
	if l.Root != "" || len(l.Formats) > 0 {
		open(Path{})
		dst = append(dst, `;rt="oma.lwm2m"`...)
		dst = appendFormats(dst, l.Formats)
	}
	for _, o := range l.Objects {
		other := !o.Version.isZero() && o.Version != Version{Major: 1}
		if other || len(o.Instances) == 0 {
			open(NewPath(o.ID))
		}
		if other {
			dst = append(dst, ";ver="...)
			dst = append(dst, o.Version.String()...)
		}
		for _, i := range o.Instances {
			open(NewPath(o.ID, i))
		}
	}
	return dst
}

func appendFormats(dst []byte, formats []ContentFormat) []byte {
	if len(formats) == 0 {
		return dst
	}
	dst = append(dst, `;ct=`...)
	if len(formats) == 1 {
		return strconv.AppendUint(dst, uint64(formats[0]), 10)
	}
	dst = append(dst, '"')
	for i, f := range formats {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = strconv.AppendUint(dst, uint64(f), 10)
	}
	return append(dst, '"')
}
