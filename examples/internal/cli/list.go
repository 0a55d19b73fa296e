package cli

import "strings"

// List is a flag that can be given several times, and whose values are separated by commas too.
type List []string

// String returns the values, separated by commas.
func (l *List) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(*l, ",")
}

// Set appends the values.
func (l *List) Set(value string) error {
	for v := range strings.SplitSeq(value, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*l = append(*l, v)
		}
	}
	return nil
}
