package page

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

// parts reads a list in parts, each of these texts is one. A capital letter is a record that is not
// selected, ! a damaged one, and . an error.
func parts(all ...string) func([]Found[rune]) ([]Found[rune], bool, error) {
	return func(found []Found[rune]) ([]Found[rune], bool, error) {
		part := all[0]
		all = all[1:]
		for _, r := range part {
			switch {
			case r == '.':
				return found, true, errors.New("gone")
			case r == '!':
				found = append(found, Found[rune]{r, true, &store.DamagedError{Err: errors.New("torn")}})
			default:
				found = append(found, Found[rune]{r, r >= 'a', nil})
			}
		}
		return found, len(all) > 0, nil
	}
}

// yielded returns what a list yields, with the short text of each error.
func yielded(l List[rune]) (text string) {
	for r, err := range l.Yield {
		if r != 0 {
			text += string(r)
		}
		switch {
		case errors.Is(err, store.ErrShort):
			text += "(short)"
		case err != nil && !errors.Is(err, store.ErrDamaged):
			text += fmt.Sprintf("(%v)", err)
		}
	}
	return text
}

func TestList(t *testing.T) {
	notX := func(r rune) bool { return r != 'x' && r != '!' }
	for _, c := range []struct {
		list List[rune]
		want string
	}{
		{List[rune]{Next: parts("")}, ""},
		{List[rune]{Next: parts("ab", "", "c")}, "abc"},
		{List[rune]{Next: parts("aXb", "X", "!c")}, "ab!c"},
		{List[rune]{Next: parts("ax!", "xb"), Keep: notX}, "a!b"},
		{List[rune]{Next: parts("ab", "cd"), Limit: 3}, "abc"},
		{List[rune]{Next: parts("ab"), Limit: 2}, "ab"},
		{List[rune]{Next: parts("aX", "!Xb", "c"), Limit: 2}, "a!"},
		{List[rune]{Next: parts("a", "b.", "c")}, "ab(gone)"},
		{List[rune]{Next: parts("ab.", "c"), Limit: 2}, "ab"},
	} {
		require.Equal(t, c.want, yielded(c.list))
	}
}

// A list with a limit ends after as many records that are not selected as the limit of these says,
// at the last one, in whichever part it is.
func TestShort(t *testing.T) {
	bare := func(r rune) rune { return r - 'A' + 'z' }
	all := slices.Repeat([]string{"XX"}, store.MaxSkipped/2-1)
	more := append(slices.Clone(all), "aXY!", "c")
	require.Equal(t, "a{(short)", yielded(List[rune]{Next: parts(more...), Limit: 5, Bare: func(rune) rune { return '{' }}))
	require.Equal(t, "a\u0092(short)", yielded(List[rune]{Next: parts(more...), Limit: 5, Bare: bare}))
	require.Equal(t, "a!c", yielded(List[rune]{Next: parts(more...), Bare: bare}), "without a limit")
	fewer := append(slices.Clone(all), "aX!", "c")
	require.Equal(t, "a!c", yielded(List[rune]{Next: parts(fewer...), Limit: 5, Bare: bare}))
	dropped := append(slices.Clone(all), "xx")
	keep := func(r rune) bool { return r != 'x' }
	require.Equal(t, "x(short)", yielded(List[rune]{Next: parts(dropped...), Limit: 5, Keep: keep, Bare: func(r rune) rune { return r }}))
}

// A list reads no further than its caller, and nothing while the body of his loop runs.
func TestBreak(t *testing.T) {
	reads, reading := 0, false
	next := func(found []Found[rune]) ([]Found[rune], bool, error) {
		reads++
		reading = true
		defer func() { reading = false }()
		return append(found, Found[rune]{'a', true, nil}, Found[rune]{'b', true, nil}), true, nil
	}
	n := 0
	for range (List[rune]{Next: next}).Yield {
		require.False(t, reading)
		if n++; n == 4 {
			break
		}
	}
	require.Equal(t, 2, reads)
}
