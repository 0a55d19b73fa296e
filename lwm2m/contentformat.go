package lwm2m

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// ContentFormat is a CoAP Content-Format number, as the Content-Format and Accept options and the
// ct attribute of a registration carry it.
type ContentFormat uint16

// The content formats of LwM2M.
const (
	FormatText      ContentFormat = 0
	FormatLink      ContentFormat = 40
	FormatOpaque    ContentFormat = 42
	FormatCBOR      ContentFormat = 60
	FormatSenMLJSON ContentFormat = 110
	FormatSenMLCBOR ContentFormat = 112
	FormatTLV       ContentFormat = 11542
	FormatJSON      ContentFormat = 11543
	FormatLwM2MCBOR ContentFormat = 11544
)

// Formats that peers send and this package reads: SenML-ETCH (RFC 8790), which LwM2M 1.2 uses for
// Write-Composite, and numbers from before the media types were registered, which some clients use.
const (
	formatSenMLETCHJSON ContentFormat = 320
	formatSenMLETCHCBOR ContentFormat = 322
	formatOldText       ContentFormat = 1541
	formatOldTLV        ContentFormat = 1542
	formatOldJSON       ContentFormat = 1543
)

// canonical returns the registered number of a format, which differs from f for the old numbers
// only.
func (f ContentFormat) canonical() ContentFormat {
	switch f {
	case formatOldText:
		return FormatText
	case formatOldTLV:
		return FormatTLV
	case formatOldJSON:
		return FormatJSON
	default:
		return f
	}
}

// String returns the media type without its parameters, or the number of a format that is not one
// of LwM2M.
func (f ContentFormat) String() string {
	switch f.canonical() {
	case FormatText:
		return "text/plain"
	case FormatLink:
		return "application/link-format"
	case FormatOpaque:
		return "application/octet-stream"
	case FormatCBOR:
		return "application/cbor"
	case FormatSenMLJSON:
		return "application/senml+json"
	case FormatSenMLCBOR:
		return "application/senml+cbor"
	case formatSenMLETCHJSON:
		return "application/senml-etch+json"
	case formatSenMLETCHCBOR:
		return "application/senml-etch+cbor"
	case FormatTLV:
		return "application/vnd.oma.lwm2m+tlv"
	case FormatJSON:
		return "application/vnd.oma.lwm2m+json"
	case FormatLwM2MCBOR:
		return "application/vnd.oma.lwm2m+cbor"
	default:
		return strconv.Itoa(int(f))
	}
}

// Version is a version number of two parts, of an object or of LwM2M itself. Its zero value means
// "not given".
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
