package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // of the description
	"encoding/base64"
	"net/http"
	"strconv"
)

// openapi is the description of the calls in OpenAPI 3.1.
//
//go:embed openapi.yaml
var openapi []byte

// docs is the same as a page. A test makes it from the description.
//
//go:embed docs.html
var docs []byte

// docsPolicy allows the page its own style sheet, and nothing else.
var docsPolicy = func() string {
	_, style, _ := bytes.Cut(docs, []byte("<style>"))
	style, _, _ = bytes.Cut(style, []byte("</style>"))
	sum := sha256.Sum256(style)
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}()

// about are the calls that describe the others.
func about() []route {
	return []route{
		{"openapi.yaml", map[string]*call{http.MethodGet: {public: true, serve: send("application/yaml", openapi)}}},
		{"docs", map[string]*call{http.MethodGet: {public: true, serve: send("text/html; charset=utf-8", docs)}}},
	}
}

// send returns a call that answers with a text.
func send(contentType string, text []byte) func(http.ResponseWriter, *http.Request, request) error {
	return func(w http.ResponseWriter, _ *http.Request, _ request) error {
		header := w.Header()
		header.Set("Content-Type", contentType)
		header.Set("Content-Length", strconv.Itoa(len(text)))
		header.Set("Content-Security-Policy", docsPolicy)
		_, _ = w.Write(text) // on an error the client has gone
		return nil
	}
}
