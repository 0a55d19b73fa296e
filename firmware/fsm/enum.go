package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ErrUnknownName reports a text that names no value of an enumeration, or a value without a name,
// which must not be written because nothing reads it back.
var ErrUnknownName = errors.New("fsm: unknown name")

// numberName returns the name of a registry number. A number without a name becomes decimal digits,
// so that nothing that a device says is lost.
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
	if n, err := strconv.Atoi(text); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("%w: %s %q", ErrUnknownName, what, text)
}

// wordText returns the text of a word, and fails for a value that is none of the words: what is
// written can be read back.
func wordText[T ~string](words []T, what string, word T, name string) ([]byte, error) {
	if !slices.Contains(words, word) {
		return nil, fmt.Errorf("%w: %s %q", ErrUnknownName, what, string(word))
	}
	return []byte(name), nil
}

// parseWord accepts one of the words in any letter case, and returns the canonical one.
func parseWord[T ~string](words []T, what, text string) (T, error) {
	for _, word := range words {
		if strings.EqualFold(string(word), text) {
			return word, nil
		}
	}
	return "", fmt.Errorf("%w: %s %q", ErrUnknownName, what, text)
}
