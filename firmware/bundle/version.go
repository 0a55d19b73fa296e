package bundle

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// CheckVersion returns an error that says why a bundle cannot have the version s.
//
// A version has at most 255 bytes. It consists of dotted identifiers of ASCII letters, digits and
// "_", the first of which begins with a digit, or with "v" and a digit. A pre-release may follow
// after "-", and build metadata after "+": dotted identifiers in which "-" is allowed too, such as
// 2024.11-rc.1+build-7. No identifier is empty.
func CheckVersion(s string) error {
	if len(s) > maxText {
		return fmt.Errorf("longer than %d bytes", maxText)
	}
	rest, build, hasBuild := strings.Cut(s, "+")
	release, pre, hasPre := strings.Cut(rest, "-")
	first := release
	if first != "" && (first[0] == 'v' || first[0] == 'V') {
		first = first[1:]
	}
	switch {
	case first == "" || !isDigit(first[0]):
		return errors.New("it does not begin with a digit, as 1.2.0 does")
	case !identifiers(release, "_"):
		return errors.New("it is not letters and digits with single dots between them")
	case hasPre && !identifiers(pre, "_-"):
		return errors.New("what follows the - is not letters and digits with single dots between them")
	case hasBuild && !identifiers(build, "_-"):
		return errors.New("what follows the + is not letters and digits with single dots between them")
	}
	return nil
}

// identifiers reports whether s is dotted identifiers, none of them empty, of letters, digits and
// others.
func identifiers(s, others string) bool {
	for id := range strings.SplitSeq(s, ".") {
		for i := range len(id) {
			c := id[i] | 0x20 // makes letters lower case
			if (c < 'a' || c > 'z') && !isDigit(id[i]) && !strings.Contains(others, id[i:i+1]) {
				return false
			}
		}
		if id == "" {
			return false
		}
	}
	return true
}

// CompareVersions returns a negative number if a is lower than b, 0 if they are equal, and a
// positive number if a is higher.
//
// The order is that of Semantic Versioning 2.0.0, section 11, for more kinds of versions: any
// number of identifiers, of which missing ones count as 0 (1.2 equals 1.2.0), leading zeros,
// numbers of any length, a leading "v". Numbers are lower than other identifiers, which are
// compared as bytes. A version with a pre-release is lower than the same without; build metadata
// does not count.
func CompareVersions(a, b string) int {
	aRelease, aPre := splitVersion(a)
	bRelease, bPre := splitVersion(b)
	if c := compareRelease(aRelease, bRelease); c != 0 {
		return c
	}
	if aPre == "" || bPre == "" {
		return cmp.Compare(len(bPre), len(aPre)) // at most one of them has a pre-release
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

// comparePreRelease is compareRelease, except that a missing identifier is lower than any other.
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
