// Package problem writes problem documents (RFC 9457): the errors of everything here that speaks
// HTTP.
package problem

import (
	"encoding/json"
	"net/http"
)

// A Document is a problem document. Without a type it is about:blank, and its title then says what
// the status means.
type Document struct {
	Type   string `json:"type,omitempty"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty"`  // of the request that is wrong
	Update string `json:"update,omitempty"` // id of the update in the way
	Code   string `json:"code,omitempty"`   // of CoAP, such as 4.04, of a device that refused
}

// Of returns a document that has no type of its own.
func Of(status int, detail string) Document {
	return Document{Title: http.StatusText(status), Status: status, Detail: detail}
}

// Write answers a request with d. No cache keeps the answer. An error of the connection has no
// reader left.
func Write(w http.ResponseWriter, d Document) {
	body, err := json.Marshal(d)
	if err != nil { // strings and a number
		panic(err)
	}
	header := w.Header()
	header.Set("Content-Type", "application/problem+json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(d.Status)
	_, _ = w.Write(append(body, '\n'))
}
