package fsm

import (
	"strconv"
	"strings"
)

// version is what 3/0/3 says. The zero value says nothing: the resource was refused, is absent or
// empty.
type version struct {
	Text string `record:"1"` // for people, if Odd
	// Odd: what the device sent is no version, and equals no other.
	Odd bool `record:"2"`
}

// maxVersion is the longest text, in bytes, that counts as a version.
const maxVersion = 255

// versionOf takes the version from a reading. Some devices send the NUL that ends the text in their
// memory, or pad it with blanks; stripped reports that.
func versionOf(f Field[string]) (v version, stripped bool) {
	if !f.OK() {
		return version{}, false
	}
	text := strip(f.Value)
	if len(text) > maxVersion || !plain(text) {
		cut := text[:min(len(text), 32)]
		return version{Text: strconv.Quote(cut), Odd: true}, false
	}
	return version{Text: text}, text != f.Value
}

// VersionText returns the text of 3/0/3 to show and store: the version, a quoted text if it is no
// version, or "" if there is none.
func VersionText(f Field[string]) string {
	v, _ := versionOf(f)
	return v.Text
}

// strip removes trailing NULs and surrounding blanks.
func strip(text string) string {
	const blanks = " \t\r\n"
	return strings.TrimLeft(strings.TrimRight(text, blanks+"\x00"), blanks)
}

// says reports whether the device named a version.
func (v version) says() bool { return v.Text != "" }

// is reports whether v is the version that a plan names.
func (v version) is(target string) bool { return v.says() && !v.Odd && v.Text == strip(target) }

// String returns the version in quotes, or that there is none.
func (v version) String() string {
	switch {
	case !v.says():
		return "none"
	case v.Odd:
		return v.Text + " (no version)"
	default:
		return strconv.Quote(v.Text)
	}
}
