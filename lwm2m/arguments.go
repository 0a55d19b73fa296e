package lwm2m

// Argument is an argument of an Execute: a digit, with or without a value; see [ParseArguments].
type Argument struct {
	Digit    uint8 // 0 to 9
	Value    string
	HasValue bool
}

// ParseArguments reads the argument list that [Object] gets with an Execute, in the order of the
// request (Core specification, Execute): digits with optional values in single quotes, between
// commas, such as "0='reset',2". Spaces, quotes, backslashes and control characters cannot be part
// of a value, and no digit occurs twice. Errors are [*FormatError].
func ParseArguments(list string) ([]Argument, error) {
	fail := func(i int, reason string) ([]Argument, error) {
		return nil, &FormatError{Format: FormatText, Offset: i, Reason: reason}
	}
	if len(list) == 0 {
		return nil, nil
	}
	var args []Argument
	var seen uint16
	for i := 0; ; {
		if i == len(list) || list[i] < '0' || list[i] > '9' {
			return fail(i, "an argument starts with a digit")
		}
		arg := Argument{Digit: list[i] - '0'}
		if seen&(1<<arg.Digit) != 0 {
			return fail(i, "digit used twice")
		}
		seen |= 1 << arg.Digit
		i++
		if i < len(list) && list[i] == '=' {
			if i++; i == len(list) || list[i] != '\'' {
				return fail(i, "a value starts with a quote")
			}
			start := i + 1
			for i++; i < len(list) && isArgumentChar(list[i]); i++ {
			}
			if i == len(list) || list[i] != '\'' {
				return fail(i, "a value ends with a quote and holds no space, quote or backslash")
			}
			arg.Value, arg.HasValue = list[start:i], true
			i++
		}
		args = append(args, arg)
		if i == len(list) {
			return args, nil
		}
		if list[i] != ',' {
			return fail(i, "a comma is expected")
		}
		i++
	}
}

func isArgumentChar(c byte) bool {
	return c > ' ' && c < 0x7f && c != '"' && c != '\'' && c != '\\'
}
