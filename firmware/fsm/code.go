package fsm

import "fmt"

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
