package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/otago-iot/otago/firmware/internal/door"
)

const (
	maxJSON  = 64 << 10         // bytes of a request's body
	bodyTime = 30 * time.Second // for it to arrive
)

func bodyTooLarge(limit int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("the body must not be longer than %d bytes", limit))
}

// bodyBroken returns the problem of a body that cannot be read.
func bodyBroken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newProblem(http.StatusRequestTimeout, "timeout", "the body did not arrive in time")
	}
	return newProblem(http.StatusBadRequest, "bad-request", "the body did not arrive as a whole")
}

// readJSON decodes the body into v. The body must be one JSON value.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	data, err := readBody(w, r, maxJSON, bodyTime)
	if err != nil {
		return err
	}
	if string(bytes.TrimSpace(data)) == "null" { // package json would leave v as it is
		return newProblem(http.StatusBadRequest, "bad-request", "the body must be a JSON object, and is null")
	}
	return decodeJSON(data, v)
}

// readBody reads a body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64, within time.Duration) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, bodyTooLarge(limit)
	}
	door.EndBy(r.Body, time.Now().Add(within))
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, bodyTooLarge(limit)
	case err != nil:
		return nil, bodyBroken(err)
	}
	return data, nil
}

// decodeJSON decodes data, which must be one JSON value, into v. It refuses keys that are no fields
// of v, also those that differ only in case, and keys that an object has twice.
func decodeJSON(data []byte, v any) error {
	if err := checkText(data); err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(v); err != nil {
		return jsonProblem(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return followed()
	}
	return checkKeys(data, v)
}

func checkText(data []byte) error {
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return newProblem(http.StatusBadRequest, "bad-request", "the body is empty")
	case !utf8.Valid(data):
		return newProblem(http.StatusBadRequest, "bad-request", "the body is not UTF-8")
	}
	return nil
}

func followed() error {
	return newProblem(http.StatusBadRequest, "bad-request", "something follows the JSON object")
}

// readNothing reads the body of a call without fields: none, or an empty object.
func readNothing(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	return readJSON(w, r, &struct{}{})
}

func jsonProblem(err error) error {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return newProblem(http.StatusBadRequest, "bad-request", "the body must be a JSON object, and is another value: "+wrong.Value)
		}
		field := strings.TrimPrefix(wrong.Field, "updateOptions.") // package json names embedded structs too
		return invalidField(clip(field, 40), "must not be a "+clip(wrong.Value, 40))
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name, _ := strconv.Unquote(field)
		return invalidField(clip(name, 40), "is not a field of this call")
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return newProblem(http.StatusBadRequest, "bad-request", "the JSON object is cut short")
	}
	return newProblem(http.StatusBadRequest, "bad-request", "not JSON: "+clip(err.Error(), 200))
}

// writeJSON sends v as JSON.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return err
	}
	sendJSON(w, status, body)
	return nil
}

// sendJSON sends JSON.
func sendJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", applicationJSON)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // on an error the client has gone
}

// marshal returns v as JSON with a newline. It does not escape <, > and &, which values of devices
// have: no browser takes an answer for HTML.
func marshal(v any) ([]byte, error) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return body.Bytes(), err
}
