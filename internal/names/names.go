// Package names checks the names that records keep and messages carry: ids, endpoints, versions.
package names

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Check returns what is wrong with a name of least to most bytes, such as "is empty", or "". A good
// name is UTF-8 without control characters.
func Check(name string, least, most int) string {
	switch {
	case name == "" && least > 0:
		return "is empty"
	case len(name) < least:
		return fmt.Sprintf("has %d bytes, fewer than %d", len(name), least)
	case len(name) > most:
		return fmt.Sprintf("has %d bytes, more than %d", len(name), most)
	case !utf8.ValidString(name):
		return "is not UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return "has a control character"
	}
	return ""
}
