package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// errWaited is the cause of the end of a request whose timeout has passed.
var errWaited = errors.New("httpapi: the timeout has passed")

// statuses maps the codes with which a device refuses a request to statuses of HTTP (RFC 8075
// section 7), except that a failure of the device is 502: 500 is a failure of this server.
var statuses = map[lwm2m.ResponseCode]int{
	lwm2m.CodeBadRequest:         http.StatusBadRequest,
	lwm2m.CodeUnauthorized:       http.StatusForbidden,
	lwm2m.CodeForbidden:          http.StatusForbidden,
	lwm2m.CodeNotFound:           http.StatusNotFound,
	lwm2m.CodeMethodNotAllowed:   http.StatusBadRequest,
	lwm2m.CodeNotAcceptable:      http.StatusNotAcceptable,
	lwm2m.CodeConflict:           http.StatusConflict,
	lwm2m.CodePreconditionFailed: http.StatusPreconditionFailed,
	lwm2m.CodeTooLarge:           http.StatusRequestEntityTooLarge,
	lwm2m.CodeUnsupportedFormat:  http.StatusUnsupportedMediaType,
	lwm2m.CodeTooManyRequests:    http.StatusTooManyRequests,
	lwm2m.CodeNotImplemented:     http.StatusNotImplemented,
	lwm2m.CodeUnavailable:        http.StatusServiceUnavailable,
}

// deviceProblem translates the error of a request to a device.
func deviceProblem(err error, timeout time.Duration) error {
	if refused, ok := errors.AsType[*lwm2m.ResponseError](err); ok {
		return refusedBy(refused)
	}
	switch {
	case errors.Is(err, store.ErrActive): // asProblem names the update
		return err
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, "not-found", "the server knows no device of that endpoint")
	case errors.Is(err, lwm2m.ErrDeliveryUnknown):
		return newProblem(http.StatusGatewayTimeout, "delivery-unknown",
			"the request was sent and not answered: read the device before you repeat it")
	case errors.Is(err, errWaited):
		return newProblem(http.StatusGatewayTimeout, "no-answer",
			fmt.Sprintf("the device sleeps, is busy with other requests, or does not answer: no answer within %s", timeout))
	case errors.Is(err, errWithdrawn):
		return newProblem(http.StatusConflict, "withdrawn", "the device has changed nothing")
	case errors.Is(err, lwm2m.ErrTimeout):
		return newProblem(http.StatusGatewayTimeout, "no-answer", "the device does not answer")
	case errors.Is(err, lwm2m.ErrNotRegistered):
		return newProblem(http.StatusServiceUnavailable, "not-registered", "the registration of the device has ended; it may have registered again since")
	case errors.Is(err, lwm2m.ErrUnreachable):
		return newProblem(http.StatusServiceUnavailable, "not-registered", "the device is registered, but its connection has ended")
	case errors.Is(err, lwm2m.ErrClosed):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "the server is stopping")
	case errors.Is(err, lwm2m.ErrRefused):
		return newProblem(http.StatusBadGateway, "device-refused", "the device answers, but does not observe the path")
	case errors.Is(err, lwm2m.ErrMalformed):
		return newProblem(http.StatusBadGateway, "device-answer", clip(err.Error(), maxReason))
	case errors.Is(err, lwm2m.ErrUnsupportedFormat), errors.Is(err, lwm2m.ErrNotEncodable), errors.Is(err, lwm2m.ErrPath):
		return newProblem(http.StatusBadRequest, "bad-request", clip(err.Error(), maxReason))
	}
	return err
}

// refusedBy returns the problem of an answer with an error code.
func refusedBy(refused *lwm2m.ResponseError) error {
	status, ok := statuses[refused.Code]
	switch {
	case ok:
	case refused.Code>>5 == 4:
		status = http.StatusBadRequest
	default:
		status = http.StatusBadGateway
	}
	detail := "the device answered " + refused.Code.String()
	if refused.Diagnostic != "" {
		detail += fmt.Sprintf(": %q", clip(refused.Diagnostic, maxReason))
	}
	p := newProblem(status, "device-refused", detail)
	p.Code = refused.Code.String()
	return p
}
