package bundle

import (
	"cmp"
	"strings"
)

// CompareVersions compares two versions: negative if a is lower, 0 if neither is, positive if a is higher.
//
// A version is dotted identifiers, then perhaps a pre-release after "-" and build metadata after "+", as in Semantic
// Versioning 2.0.0, section 11, and as forgiving as versions in the field demand: any number of identifiers, missing ones
// counting as 0 (1.2 is 1.2.0), leading zeros, numbers of any length, a leading "v". Numbers are compared as such and are
// lower than identifiers that are none, which are compared as bytes. A version with a pre-release is lower than the same
// without; build metadata does not count.
func CompareVersions(a, b string) int {
	aRelease, aPre := splitVersion(a)
	bRelease, bPre := splitVersion(b)
	if c := compareRelease(aRelease, bRelease); c != 0 {
		return c
	}
	if aPre == "" || bPre == "" {
		return cmp.Compare(len(bPre), len(aPre)) // only one of them, or none, has a pre-release
	}
	return comparePreRelease(aPre, bPre)
}

func splitVersion(s string) (release, pre string) {
	if len(s) > 1 && (s[0] == 'v' || s[0] == 'V') && isDigit(s[1]) {
		s = s[1:]
	}
	s, _, _ = strings.Cut(s, "+")
	release, pre, _ = strings.Cut(s, "-")
	return release, pre
}

func compareRelease(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		if c := compareIdentifier(cmp.Or(x, "0"), cmp.Or(y, "0")); c != 0 {
			return c
		}
	}
	return 0
}

// comparePreRelease differs from compareRelease in that a missing identifier is lower than any other.
func comparePreRelease(a, b string) int {
	for {
		var x, y string
		var more, moreB bool
		x, a, more = strings.Cut(a, ".")
		y, b, moreB = strings.Cut(b, ".")
		if c := compareIdentifier(x, y); c != 0 {
			return c
		}
		switch {
		case !more && !moreB:
			return 0
		case !more:
			return -1
		case !moreB:
			return 1
		}
	}
}

func compareIdentifier(a, b string) int {
	switch aNumber, bNumber := isNumber(a), isNumber(b); {
	case aNumber && bNumber:
		a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
		return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
	case aNumber:
		return -1
	case bNumber:
		return 1
	default:
		return strings.Compare(a, b)
	}
}

func isNumber(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
