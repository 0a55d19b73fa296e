package lwm2m

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// NoID is the reserved identifier 65535. It never names an object, an instance or a resource;
// accessors of [Path] return it for a level that the path does not have, and the null object link
// is 65535:65535.
const NoID uint16 = 65535

// MaxPathLen is the number of levels of the longest path: object, object instance, resource,
// resource instance.
const MaxPathLen = 4

// ErrPath is the category of every error about the text or the identifiers of a path.
var ErrPath = errors.New("lwm2m: bad path")

// Path names a node of the object tree: the root, an object, an object instance, a resource or a
// resource instance. It is comparable, so it can be a map key, and its zero value is the root.
type Path struct {
	ids [MaxPathLen]uint16 // unused levels are zero, or == would not work
	n   uint8
}

// NewPath returns the path with the given identifiers, from the object down: NewPath(5, 0, 3) is
// /5/0/3 and NewPath() the root. It is for paths that are fixed in the program, and panics on more
// than four identifiers and on the reserved identifier 65535. For identifiers from elsewhere there
// are [ParsePath] and [Path.Child].
func NewPath(ids ...uint16) Path {
	if len(ids) > MaxPathLen {
		panic("lwm2m: NewPath with more than four identifiers")
	}
	var p Path
	for _, id := range ids {
		if id == NoID {
			panic("lwm2m: NewPath with the reserved identifier 65535")
		}
		p = p.child(id)
	}
	return p
}

// ParsePath reads a path such as "/5/0/3". The root is "/" or ""; one leading slash may be missing
// ("5/0/3"). Identifiers are decimal, 0 to 65534, without sign or needless leading zeros. Errors
// are [ErrPath].
func ParsePath(s string) (Path, error) {
	p, ok := parsePath(s)
	if !ok {
		return Path{}, fmt.Errorf("%w: %q", ErrPath, s)
	}
	return p, nil
}

func parsePath[T string | []byte](s T) (Path, bool) { return scanPath(s, false) }

// scanPath reads a path. With zeros it takes identifiers such as 00, in up to five digits.
func scanPath[T string | []byte](s T, zeros bool) (p Path, ok bool) {
	i := 0
	if len(s) > 0 && s[0] == '/' {
		i = 1
	}
	if i == len(s) {
		return Path{}, true
	}
	for {
		start, id := i, 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			if id = id*10 + int(s[i]-'0'); id >= int(NoID) {
				return Path{}, false
			}
			i++
		}
		digits := i - start
		if digits == 0 || digits > 5 || digits > 1 && s[start] == '0' && !zeros || p.n == MaxPathLen {
			return Path{}, false
		}
		p = p.child(uint16(id))
		if i == len(s) {
			return p, true
		}
		if s[i] != '/' {
			return Path{}, false
		}
		i++
	}
}

// child appends a level; the caller has checked that there is room.
func (p Path) child(id uint16) Path {
	p.ids[p.n] = id
	p.n++
	return p
}

// checkedChild returns the path one level below p. It refuses the reserved identifier 65535 and a
// level below a resource instance with [ErrPath].
func (p Path) checkedChild(id uint16) (Path, error) {
	if id == NoID {
		return Path{}, fmt.Errorf("%w: identifier 65535 is reserved", ErrPath)
	}
	if p.n == MaxPathLen {
		return Path{}, fmt.Errorf("%w: nothing is below %s", ErrPath, p)
	}
	return p.child(id), nil
}

// Len is the number of levels of p: 0 for the root, 1 for an object, 2 for an object instance, 3
// for a resource, 4 for a resource instance.
func (p Path) Len() int { return int(p.n) }

// IsRoot reports whether p is the root.
func (p Path) IsRoot() bool { return p.n == 0 }

// IsObject reports whether p names an object.
func (p Path) IsObject() bool { return p.n == 1 }

// IsInstance reports whether p names an object instance.
func (p Path) IsInstance() bool { return p.n == 2 }

// IsResource reports whether p names a resource.
func (p Path) IsResource() bool { return p.n == 3 }

// IsResourceInstance reports whether p names a resource instance.
func (p Path) IsResourceInstance() bool { return p.n == 4 }

// Object returns the object's identifier, or [NoID] for the root.
func (p Path) Object() uint16 { return p.id(0) }

// Instance returns the object instance's identifier, or [NoID] if p has none.
func (p Path) Instance() uint16 { return p.id(1) }

// Resource returns the resource's identifier, or [NoID] if p has none.
func (p Path) Resource() uint16 { return p.id(2) }

// ResourceInstance returns the resource instance's identifier, or [NoID] if p has none.
func (p Path) ResourceInstance() uint16 { return p.id(3) }

func (p Path) id(level int) uint16 {
	if level >= int(p.n) {
		return NoID
	}
	return p.ids[level]
}

// Prefix returns the first n levels of p, or p itself if it has no more. Prefix(2) of /5/0/3 is
// /5/0.
func (p Path) Prefix(n int) Path {
	for i := max(n, 0); i < int(p.n); i++ {
		p.ids[i] = 0
	}
	p.n = min(p.n, uint8(min(max(n, 0), MaxPathLen)))
	return p
}

// parent returns the path one level above p; the parent of the root is the root.
func (p Path) parent() Path { return p.Prefix(p.Len() - 1) }

// key returns the identifiers as one number, which orders paths of one length.
func (p Path) key() uint64 {
	return uint64(p.ids[0])<<48 | uint64(p.ids[1])<<32 | uint64(p.ids[2])<<16 | uint64(p.ids[3])
}

// Contains reports whether q is p or below p.
func (p Path) Contains(q Path) bool {
	return q.n >= p.n && (p.key()^q.key())>>(64-16*p.n) == 0
}

// Compare orders paths by their identifiers, level by level, a path before what is below it.
func (p Path) Compare(q Path) int {
	// A path and what is below it can have the same key, ending in zeros.
	return cmp.Or(cmp.Compare(p.key(), q.key()), cmp.Compare(p.n, q.n))
}

// appendTo appends the text of p, as String gives it, to dst.
func (p Path) appendTo(dst []byte) []byte {
	if p.n == 0 {
		return append(dst, '/')
	}
	for _, id := range p.ids[:p.n] {
		dst = append(dst, '/')
		dst = strconv.AppendUint(dst, uint64(id), 10)
	}
	return dst
}

// String returns the path with a leading slash and without a trailing one, "/" for the root.
func (p Path) String() string {
	var buf [4 * 6]byte
	return string(p.appendTo(buf[:0]))
}

// MarshalText implements [encoding.TextMarshaler] with the text of String.
func (p Path) MarshalText() ([]byte, error) { return p.appendTo(nil), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; it accepts what [ParsePath] accepts.
func (p *Path) UnmarshalText(text []byte) error {
	q, ok := parsePath(text)
	if !ok {
		return fmt.Errorf("%w: %q", ErrPath, text)
	}
	*p = q
	return nil
}
