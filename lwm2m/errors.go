package lwm2m

import (
	"errors"
	"fmt"
	"strconv"
)

// The categories of answers that refuse a request. An [Object] returns them, alone or wrapped, to
// choose the response code; a [ResponseError] from a device matches the category of its code with
// errors.Is. [ErrUnsupportedFormat] stands for 4.15, [ErrMalformed] for 4.00.
var (
	ErrBadRequest         = errors.New("lwm2m: bad request")           // 4.00
	ErrUnauthorized       = errors.New("lwm2m: unauthorized")          // 4.01
	ErrForbidden          = errors.New("lwm2m: forbidden")             // 4.03
	ErrNotFound           = errors.New("lwm2m: not found")             // 4.04
	ErrMethodNotAllowed   = errors.New("lwm2m: method not allowed")    // 4.05
	ErrNotAcceptable      = errors.New("lwm2m: not acceptable")        // 4.06
	ErrIncomplete         = errors.New("lwm2m: body incomplete")       // 4.08
	ErrConflict           = errors.New("lwm2m: conflict")              // 4.09
	ErrPreconditionFailed = errors.New("lwm2m: precondition failed")   // 4.12
	ErrTooLarge           = errors.New("lwm2m: body too large")        // 4.13
	ErrInternal           = errors.New("lwm2m: internal error")        // 5.00
	ErrNotImplemented     = errors.New("lwm2m: not implemented")       // 5.01
	ErrUnavailable        = errors.New("lwm2m: unavailable for now")   // 5.03
	ErrRefused            = errors.New("lwm2m: refused by the device") // any other error code; see ResponseError.Code
)

// The categories of requests that got no answer.
var (
	// ErrNotRegistered: the endpoint has no registration, or lost it before the request was sent.
	ErrNotRegistered = errors.New("lwm2m: not registered")
	// ErrAsleep: the device is in queue mode and sleeps, and the caller asked not to wait.
	ErrAsleep = errors.New("lwm2m: device sleeps")
	// ErrUnreachable: the request could not be sent: there is no open transport to the device.
	ErrUnreachable = errors.New("lwm2m: device unreachable")
	// ErrTimeout: the peer did not answer in the time that the transport allows. Unless
	// ErrDeliveryUnknown matches too, repeating the request is harmless.
	ErrTimeout = errors.New("lwm2m: no answer")
	// ErrDeliveryUnknown: the request was sent, no answer came, and the device may or may not have
	// carried it out. Read before repeating it.
	ErrDeliveryUnknown = errors.New("lwm2m: delivery unknown")
	// ErrClosed: the server or the client has stopped.
	ErrClosed = errors.New("lwm2m: closed")
	// ErrChanged: the content changed during the download; start from the beginning.
	ErrChanged = errors.New("lwm2m: content changed")
	// ErrUnsupportedScheme: the URI asks for a transport that is not available.
	ErrUnsupportedScheme = errors.New("lwm2m: unsupported scheme")
)

// ResponseCode is a CoAP response code as one byte: class in the upper three bits, detail in the
// lower five (RFC 7252 section 3).
type ResponseCode uint8

// The error codes that LwM2M uses.
const (
	CodeBadRequest         ResponseCode = 0x80
	CodeUnauthorized       ResponseCode = 0x81
	CodeForbidden          ResponseCode = 0x83
	CodeNotFound           ResponseCode = 0x84
	CodeMethodNotAllowed   ResponseCode = 0x85
	CodeNotAcceptable      ResponseCode = 0x86
	CodeIncomplete         ResponseCode = 0x88
	CodeConflict           ResponseCode = 0x89
	CodePreconditionFailed ResponseCode = 0x8c
	CodeTooLarge           ResponseCode = 0x8d
	CodeUnsupportedFormat  ResponseCode = 0x8f
	CodeTooManyRequests    ResponseCode = 0x9d
	CodeInternal           ResponseCode = 0xa0
	CodeNotImplemented     ResponseCode = 0xa1
	CodeUnavailable        ResponseCode = 0xa3
)

// String returns the code as "4.04".
func (c ResponseCode) String() string {
	s := strconv.Itoa(int(c >> 5))
	if c&0x1f < 10 {
		return s + ".0" + strconv.Itoa(int(c&0x1f))
	}
	return s + "." + strconv.Itoa(int(c&0x1f))
}

// codeErrors pairs codes with their categories. Order matters to codeOf: an error that matches two
// gets the first.
var codeErrors = [...]struct {
	code ResponseCode
	err  error
}{
	{CodeUnsupportedFormat, ErrUnsupportedFormat},
	{CodeBadRequest, ErrBadRequest},
	{CodeUnauthorized, ErrUnauthorized},
	{CodeForbidden, ErrForbidden},
	{CodeNotFound, ErrNotFound},
	{CodeMethodNotAllowed, ErrMethodNotAllowed},
	{CodeNotAcceptable, ErrNotAcceptable},
	{CodeIncomplete, ErrIncomplete},
	{CodeConflict, ErrConflict},
	{CodePreconditionFailed, ErrPreconditionFailed},
	{CodeTooLarge, ErrTooLarge},
	{CodeInternal, ErrInternal},
	{CodeNotImplemented, ErrNotImplemented},
	{CodeUnavailable, ErrUnavailable},
	{CodeBadRequest, ErrMalformed},
	{CodeBadRequest, ErrPath},
}

// A ResponseError is an answer with an error code: from a device to a [Server], from a server to a
// [Client], or the answer that an [Object] asks for.
type ResponseError struct {
	Code ResponseCode
	// Path is the path of the request; the root for composites and for paths that are not LwM2M's.
	Path Path
	// Diagnostic is the text that came with the code, at most 256 bytes of it, "" if there was
	// none. The peer wrote it: show it, do not act on it.
	Diagnostic string
	// Limit is the largest body in bytes that the peer takes, which an answer 4.13 may state; 0 if
	// it did not.
	Limit int64
}

// Error implements error.
func (e *ResponseError) Error() string {
	if e.Diagnostic == "" {
		return fmt.Sprintf("lwm2m: %s on %s", e.Code, e.Path)
	}
	return fmt.Sprintf("lwm2m: %s on %s: %q", e.Code, e.Path, e.Diagnostic)
}

// Is reports whether target is the category of the code.
func (e *ResponseError) Is(target error) bool {
	for _, c := range codeErrors {
		if c.code == e.Code {
			return target == c.err
		}
	}
	return target == ErrRefused
}

// codeOf returns the response code for an error of an object.
func codeOf(err error) ResponseCode {
	if re, ok := errors.AsType[*ResponseError](err); ok {
		return re.Code
	}
	for _, c := range codeErrors {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return CodeInternal
}

// The categories of errors about payloads. A client answers ErrUnsupportedFormat with 4.15 (or 4.06
// when it concerns Accept) and ErrMalformed with 4.00.
var (
	// ErrUnsupportedFormat: the content format is unknown, or cannot carry the values at the path
	// (text/plain of an object, for example).
	ErrUnsupportedFormat = errors.New("lwm2m: unsupported content format")
	// ErrMalformed: the payload violates its content format, its path or its object's model.
	ErrMalformed = errors.New("lwm2m: malformed payload")
	// ErrNotEncodable: the content format cannot represent a value, a path or a time.
	ErrNotEncodable = errors.New("lwm2m: not encodable")
)

// FormatError says where and why a payload was refused. It matches [ErrMalformed] with errors.Is,
// and what Err wraps.
type FormatError struct {
	Format ContentFormat
	Offset int    // of the byte in the payload at which the problem was noticed
	Reason string // what is wrong, in a few words
	Err    error  // the cause, from the package of the format; may be nil
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("lwm2m: malformed %s at offset %d: %s", e.Format, e.Offset, e.Reason)
}

// Unwrap returns [ErrMalformed] and, if there is one, Err.
func (e *FormatError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrMalformed}
	}
	return []error{ErrMalformed, e.Err}
}
