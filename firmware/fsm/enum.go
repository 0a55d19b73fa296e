package fsm

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrUnknownName reports a text that names no value of an enumeration.
var ErrUnknownName = errors.New("fsm: unknown name")

// numberName gives the name of a registry number; numbers without a name are
// shown as decimal digits, so that nothing a device says is lost.
func numberName(names []string, n int) string {
	if n >= 0 && n < len(names) {
		return names[n]
	}
	return strconv.Itoa(n)
}

// parseNumber is the inverse of numberName, in any letter case.
func parseNumber(names []string, what, text string) (int, error) {
	for n, name := range names {
		if strings.EqualFold(name, text) {
			return n, nil
		}
	}
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		return int(n), nil
	}
	return 0, fmt.Errorf("%w: %s %q", ErrUnknownName, what, text)
}

// parseWord accepts one of the words in any letter case and returns the
// canonical one.
func parseWord[T ~string](words []T, what, text string) (T, error) {
	for _, word := range words {
		if strings.EqualFold(string(word), text) {
			return word, nil
		}
	}
	return "", fmt.Errorf("%w: %s %q", ErrUnknownName, what, text)
}
