package lwm2m

import (
	"fmt"
	"strconv"
)

// Argument is an argument of an Execute: a digit, with or without a value.
type Argument struct {
	Digit    uint8 // 0 to 9
	Value    string
	HasValue bool
}

// Arguments are the arguments of an Execute, in the order of the request.
type Arguments []Argument

// Get returns the argument with the given digit.
func (a Arguments) Get(digit uint8) (Argument, bool) {
	for _, arg := range a {
		if arg.Digit == digit {
			return arg, true
		}
	}
	return Argument{}, false
}

// ParseArguments reads the payload of an Execute (Core specification, Execute):
// digits with optional values in single quotes, between commas, such as
// 0='reset',2 . Spaces, quotes, backslashes and control characters cannot be
// part of a value, and no digit occurs twice. Errors are [*FormatError].
func ParseArguments(payload []byte) (Arguments, error) {
	fail := func(i int, reason string) (Arguments, error) {
		return nil, &FormatError{Format: FormatText, Offset: i, Reason: reason}
	}
	if len(payload) == 0 {
		return nil, nil
	}
	var args Arguments
	var seen uint16
	for i := 0; ; {
		if i == len(payload) || payload[i] < '0' || payload[i] > '9' {
			return fail(i, "an argument starts with a digit")
		}
		arg := Argument{Digit: payload[i] - '0'}
		if seen&(1<<arg.Digit) != 0 {
			return fail(i, "digit used twice")
		}
		seen |= 1 << arg.Digit
		i++
		if i < len(payload) && payload[i] == '=' {
			if i++; i == len(payload) || payload[i] != '\'' {
				return fail(i, "a value starts with a quote")
			}
			start := i + 1
			for i++; i < len(payload) && isArgumentChar(payload[i]); i++ {
			}
			if i == len(payload) || payload[i] != '\'' {
				return fail(i, "a value ends with a quote and holds no space, quote or backslash")
			}
			arg.Value, arg.HasValue = string(payload[start:i]), true
			i++
		}
		args = append(args, arg)
		if i == len(payload) {
			return args, nil
		}
		if payload[i] != ',' {
			return fail(i, "a comma is expected")
		}
		i++
	}
}

func isArgumentChar(c byte) bool {
	return c > ' ' && c < 0x7f && c != '"' && c != '\'' && c != '\\'
}

// Append appends the arguments as the payload of an Execute to dst. What
// [ParseArguments] would refuse is refused with [ErrNotEncodable].
func (a Arguments) Append(dst []byte) ([]byte, error) {
	out := dst
	var seen uint16
	for i, arg := range a {
		if arg.Digit > 9 || seen&(1<<arg.Digit) != 0 {
			return dst, fmt.Errorf("%w: argument %d is no digit or used twice", ErrNotEncodable, arg.Digit)
		}
		seen |= 1 << arg.Digit
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(arg.Digit), 10)
		if !arg.HasValue {
			continue
		}
		for j := range len(arg.Value) {
			if !isArgumentChar(arg.Value[j]) {
				return dst, fmt.Errorf("%w: character %q in argument %d", ErrNotEncodable, arg.Value[j], arg.Digit)
			}
		}
		out = append(out, '=', '\'')
		out = append(out, arg.Value...)
		out = append(out, '\'')
	}
	return out, nil
}
