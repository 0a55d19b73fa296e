package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// State is the value of resource 5/0/3. Numbers outside 0 to 3 break the range of the registry;
// they are kept, and shown as digits.
type State int

// The States of Object 5.
const (
	Idle        State = 0
	Downloading State = 1
	Downloaded  State = 2
	Updating    State = 3
)

var stateNames = []string{"idle", "downloading", "downloaded", "updating"}

// String returns the name in lower case, such as "downloading".
func (s State) String() string { return numberName(stateNames, int(s)) }

// known reports whether the registry defines s.
func (s State) known() bool { return s >= Idle && s <= Updating }

// MarshalText returns the name in lower case.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (s *State) UnmarshalText(text []byte) error {
	n, err := parseNumber(stateNames, "state", string(text))
	if err != nil {
		return err
	}
	*s = State(n)
	return nil
}

// Result is the value of resource 5/0/5, the Update Result. Unknown numbers are kept, and shown as
// digits.
//
// As the Result of an [Update], ResultDefault means that the update is active.
type Result int

// The Update Results of Object 5: 0 to 9 since version 1.0, 10 and 11 since 1.1.
const (
	ResultDefault         Result = 0
	ResultSuccess         Result = 1
	ResultNoStorage       Result = 2
	ResultOutOfMemory     Result = 3
	ResultConnectionLost  Result = 4
	ResultIntegrityFailed Result = 5
	ResultUnsupFirmware   Result = 6
	ResultInvalidURI      Result = 7
	ResultUpdateFailed    Result = 8
	ResultUnsupProtocol   Result = 9
	ResultCancelled       Result = 10
	ResultDeferred        Result = 11
)

// resultNames also has those of the Advanced Firmware Update object (33629), 12 and 13, for
// journals.
var resultNames = []string{
	"default", "success", "no_storage", "out_of_mem", "connection_lost",
	"integrity_failed", "unsup_fw", "invalid_uri", "update_failed",
	"unsup_proto", "cancelled", "deferred", "conflicting_state",
	"dependency_error",
}

// String returns the name in lower case, such as "no_storage".
func (r Result) String() string { return numberName(resultNames, int(r)) }

// MarshalText returns the name in lower case.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (r *Result) UnmarshalText(text []byte) error {
	n, err := parseNumber(resultNames, "result", string(text))
	if err != nil {
		return err
	}
	*r = Result(n)
	return nil
}

// Code is a CoAP response code: the class in the upper three bits, the detail in the lower five
// (RFC 7252, section 3). Zero means that there was no response.
type Code uint8

// The response codes that the machines use.
const (
	CodeNone               Code = 0
	CodeChanged            Code = 2<<5 | 4
	CodeContent            Code = 2<<5 | 5
	codeContinue           Code = 2<<5 | 31
	CodeBadRequest         Code = 4 << 5
	CodeNotFound           Code = 4<<5 | 4
	CodeMethodNotAllowed   Code = 4<<5 | 5
	codeTooLarge           Code = 4<<5 | 13
	codeUnsupportedFormat  Code = 4<<5 | 15
	codeInternalError      Code = 5 << 5
	codeNotImplemented     Code = 5<<5 | 1
	codeServiceUnavailable Code = 5<<5 | 3
)

// OK reports whether c is a success (class 2).
func (c Code) OK() bool { return c>>5 == 2 }

// String returns the dotted form, such as "4.05"; CodeNone is "no answer".
func (c Code) String() string {
	if c == CodeNone {
		return "no answer"
	}
	return fmt.Sprintf("%d.%02d", c>>5, c&0x1f)
}

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

// wordText returns the text of a word. It fails for any other value, so that what is written can be
// read back.
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
