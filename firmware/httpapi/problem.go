package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/otago-iot/otago/firmware"
	document "github.com/otago-iot/otago/internal/problem"
	"github.com/otago-iot/otago/store"
)

// problemType is the prefix of the type of a problem document; the kind of problem follows.
const problemType = "tag:otago-iot.github.io,2026:problem:"

// problem is a problem document (RFC 9457). A call returns it as its error.
type problem struct {
	document.Document
	allow     string // header Allow
	challenge string // header WWW-Authenticate
}

func (p *problem) Error() string { return p.Title + ": " + p.Detail }

// titles maps the kinds of problem to their titles.
var titles = map[string]string{
	"bad-request":            "The request cannot be understood",
	"invalid-field":          "A field of the request is wrong",
	"invalid-query":          "A query parameter is wrong",
	"unauthenticated":        "Credentials are needed",
	"forbidden":              "Not allowed",
	"foreign-origin":         "Requests from pages of another origin are refused",
	"not-found":              "Not found",
	"method-not-allowed":     "The method is not allowed here",
	"update-active":          "The endpoint has an active update",
	"update-ended":           "The update has ended",
	"image-in-use":           "An active update needs the image",
	"position":               "The journal does not reach this position",
	"kept":                   "The program that runs the server still needs it",
	"version-taken":          "Another image has this name and version",
	"conflict":               "The request does not fit the current state",
	"key-reused":             "The idempotency key belongs to another request",
	"too-large":              "The request is too large",
	"timeout":                "The request did not arrive in time",
	"disk-full":              "The server has no room left on its disk",
	"unsupported-media-type": "The Content-Type is not the right one",
	"rollout-state":          "The rollout is not in a state for this",
	"refused":                "The program that runs the server refuses it",
	"device-refused":         "The device refused the request",
	"device-answer":          "The answer of the device cannot be understood",
	"no-answer":              "The device did not answer in time",
	"delivery-unknown":       "The device may have carried out the request",
	"not-registered":         "The registration or the connection of the device has ended",
	"withdrawn":              "The request was withdrawn before it was sent",
	"unavailable":            "Not available now",
	"too-many":               "Too many at once",
	"damaged":                "The record is damaged",
	"internal":               "Internal error",
}

func newProblem(status int, kind, detail string) *problem {
	return &problem{Document: document.Document{
		Type: problemType + kind, Title: titles[kind], Status: status, Detail: detail,
	}}
}

// invalidField returns the problem of one field of a request's body.
func invalidField(field, wrong string) *problem {
	p := newProblem(http.StatusBadRequest, "invalid-field", field+" "+wrong)
	p.Field = field
	return p
}

// invalidQuery returns the problem of one query parameter.
func invalidQuery(parameter, detail string) *problem {
	p := newProblem(http.StatusBadRequest, "invalid-query", detail)
	p.Field = parameter
	return p
}

func unauthenticated() *problem {
	p := newProblem(http.StatusUnauthorized, "unauthenticated", "the request needs valid credentials")
	p.challenge = `Bearer realm="otago"`
	return p
}

// asProblem translates errors of the manager and its store. Nil means an internal error, which
// clients must not see.
func asProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return bodyTooLarge(tooLarge.Limit)
	}
	if wrong, ok := errors.AsType[*firmware.RequestError](err); ok {
		return invalidField(wrong.Field, wrong.Problem)
	}
	if active, ok := errors.AsType[*store.UpdateError](err); ok && active.Err == store.ErrActive {
		p := newProblem(http.StatusConflict, "update-active", "update "+active.ID+" is active: wait for its end, or cancel it")
		p.Update = active.ID
		return p
	}
	if damaged, ok := errors.AsType[*store.DamagedError](err); ok {
		return newProblem(http.StatusInternalServerError, "damaged",
			fmt.Sprintf("the %s cannot be read: %s", damaged.Kind, clip(damaged.Err.Error(), maxReason)))
	}
	switch {
	case errors.Is(err, store.ErrNoSpace):
		return newProblem(http.StatusInsufficientStorage, "disk-full", "the server's disk is full")
	case errors.Is(err, store.ErrInvalid):
		return newProblem(http.StatusBadRequest, "bad-request", "a value is too long, or has characters that are not allowed")
	case errors.Is(err, store.ErrNotFound):
		return newProblem(http.StatusNotFound, "not-found", "there is nothing of that id")
	case errors.Is(err, store.ErrInUse):
		return newProblem(http.StatusConflict, "image-in-use", "an active update needs the image: cancel it or wait for its end")
	case errors.Is(err, store.ErrVersionTaken):
		return newProblem(http.StatusConflict, "version-taken",
			"an image of this name and version but with other bytes, or for other devices, exists: choose another version, or delete it")
	case errors.Is(err, firmware.ErrKept):
		return newProblem(http.StatusConflict, "kept", clip(err.Error(), maxReason))
	case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotDamaged):
		return newProblem(http.StatusConflict, "conflict", "the record changed meanwhile: read it and try again")
	case errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "the server is stopping")
	}
	return nil
}

// document returns the problem document of an error that comes when a call has been answered.
func (a *api) document(err error) document.Document {
	p := asProblem(err)
	if p == nil {
		a.config.Logger.Error("request to a device failed", "error", err)
		p = newProblem(http.StatusInternalServerError, "internal", "the server could not carry out the request; its log says why")
	}
	return p.Document
}

// fail sends the problem document of an error.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := asProblem(err)
	if p == nil || errors.Is(err, store.ErrDamaged) || p.Status == http.StatusInsufficientStorage {
		a.config.Logger.Error("request failed", "method", r.Method, "path", r.URL.EscapedPath(), "error", err)
	}
	if p == nil {
		p = newProblem(http.StatusInternalServerError, "internal", "the server could not carry out the request; its log says why")
	}
	header := w.Header()
	if p.allow != "" {
		header.Set("Allow", p.allow)
	}
	if p.challenge != "" {
		header.Set("WWW-Authenticate", p.challenge)
	}
	document.Write(w, p.Document)
}
