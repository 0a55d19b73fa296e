package lwm2m

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Version is a version number of two parts, of an object or of LwM2M itself.
// Its zero value means "not given".
type Version struct {
	Major, Minor uint8
}

// ParseVersion reads a version such as "1.1". Each part is 0 to 255.
func ParseVersion(s string) (Version, error) {
	major, minor, ok := strings.Cut(s, ".")
	a, errA := strconv.ParseUint(major, 10, 8)
	b, errB := strconv.ParseUint(minor, 10, 8)
	if !ok || errA != nil || errB != nil {
		return Version{}, fmt.Errorf("lwm2m: bad version %q", s)
	}
	return Version{Major: uint8(a), Minor: uint8(b)}, nil
}

// isZero reports whether no version is given.
func (v Version) isZero() bool { return v == Version{} }

// Compare orders versions.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Major, w.Major), cmp.Compare(v.Minor, w.Minor))
}

// String returns the version as "1.1".
func (v Version) String() string {
	return strconv.Itoa(int(v.Major)) + "." + strconv.Itoa(int(v.Minor))
}
