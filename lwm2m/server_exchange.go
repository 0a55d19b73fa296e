package lwm2m

import (
	"errors"
	"fmt"
	"strings"

	"github.com/otago-iot/otago/internal/coap"
)

// answered records contact with the device.
func (s *Server) answered(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss.device.id == ss.id && ss.device.peer == ss.peer {
		s.hear(ss.device)
	}
}

// unanswered records that the device did not answer. It reports whether the device is in queue
// mode, and so assumed to sleep.
func (s *Server) unanswered(ss *session, err error) (asleep bool) {
	if !errors.Is(err, coap.ErrTimeout) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := ss.device
	if d.id != ss.id || d.peer != ss.peer {
		return false
	}
	if !d.queue() {
		d.awake = false
		return false
	}
	s.fallAsleep(d)
	return true
}

// failure returns why a request failed, as an error of this package. Server.mu is held.
func (c *Call) failure(err error) error {
	kind := err
	switch {
	case c.cancelled != nil:
		kind = c.cancelled
	case c.interrupt != nil:
		kind = c.interrupt
	case errors.Is(err, coap.ErrTimeout):
		kind = ErrTimeout
	case errors.Is(err, coap.ErrReset), errors.Is(err, coap.ErrPeerGone), errors.Is(err, coap.ErrNoPeer):
		kind = ErrUnreachable
	case errors.Is(err, coap.ErrTooLarge):
		kind = ErrTooLarge
	case errors.Is(err, coap.ErrBusy):
		kind = ErrUnavailable
	case errors.Is(err, coap.ErrClosed):
		kind = ErrClosed
	case errors.Is(err, coap.ErrETagChanged):
		kind = ErrChanged
	}
	return &requestError{
		endpoint: c.request.Endpoint, path: c.request.about(), kind: kind, cause: err,
		unknown: c.mayMatter() && errors.Is(err, coap.ErrDeliveryUnknown),
	}
}

// mayMatter reports whether it matters that the request may have been carried out.
func (c *Call) mayMatter() bool {
	return !c.request.Operation.safe() && c.request.Operation != opForget
}

// requestError is a request that got no answer.
type requestError struct {
	endpoint string
	path     Path
	kind     error // the category, or why the request was ended
	cause    error // the transport's error; nil if the request did not get there
	unknown  bool  // the request may have been carried out
}

func (e *requestError) Error() string {
	s := fmt.Sprintf("%v (%s of %s)", e.kind, e.path, e.endpoint)
	if e.unknown {
		s += ": it may have been carried out"
	}
	return s
}

func (e *requestError) Is(target error) bool { return target == ErrDeliveryUnknown && e.unknown }

func (e *requestError) Unwrap() []error {
	if e.cause == nil {
		return []error{e.kind}
	}
	return []error{e.kind, e.cause}
}

const maxDiagnostic = 256

// responseError returns an answer with an error code as an error, nil for a success.
func responseError(resp *coap.Response, path Path) error {
	code := ResponseCode(resp.Code)
	if code>>5 == 2 {
		return nil
	}
	text := resp.Payload
	if f, ok := resp.ContentFormat.Get(); ok && f != uint16(FormatText) {
		text = nil
	}
	failed := &ResponseError{Code: code, Path: path, Diagnostic: strings.ToValidUTF8(string(text[:min(len(text), maxDiagnostic)]), "")}
	if code == CodeTooLarge {
		failed.Limit = max(resp.Limit, 0)
	}
	return failed
}

// errSoon is ErrUnavailable for a moment. Over UDP the server does not answer at all: some devices
// wait for a minute after 5.03, but only 2 s without an answer.
var errSoon = fmt.Errorf("%w", ErrUnavailable)

// errorResponse answers with the code of an error and its text.
func errorResponse(err error) *coap.Response {
	text := strings.TrimPrefix(err.Error(), "lwm2m: ")
	if re, ok := errors.AsType[*ResponseError](err); ok {
		text = re.Diagnostic
	}
	code := codeOf(err)
	if code == CodeInternal {
		text = "" // only the log of the server shows it
	}
	return &coap.Response{Code: coap.Code(code), Payload: []byte(text[:min(len(text), maxDiagnostic)]), Soon: errors.Is(err, errSoon)}
}
