package httpapi

import (
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// The media types of request bodies.
const (
	octetStream     = "application/octet-stream"
	applicationJSON = "application/json"
)

// sameOrigin refuses what a page of another origin makes a browser send, whatever the method: no answer of this API is
// meant for such a page, and an event stream costs. Programs that are no browser send neither header.
func sameOrigin(r *http.Request) error {
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return nil
	case "": // an old browser, or none
	default:
		return newProblem(http.StatusForbidden, "foreign-origin", "Sec-Fetch-Site is "+clip(site, 20))
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return newProblem(http.StatusForbidden, "foreign-origin", "Origin is "+clip(origin, 100))
}

// checkContentType holds a call to its media type. A call without a body takes a request without one: forms and scripts
// of other pages cannot send DELETE, and their POST is refused by its origin; a body of another type is refused here.
func checkContentType(r *http.Request, want string) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	header := r.Header.Get("Content-Type")
	if want == "" {
		if header == "" && r.ContentLength == 0 {
			return nil
		}
		want = applicationJSON
	}
	got, parameters, err := mime.ParseMediaType(header)
	if err == nil && got == want {
		if charset, ok := parameters["charset"]; ok && want == applicationJSON && !strings.EqualFold(charset, "utf-8") {
			return newProblem(http.StatusUnsupportedMediaType, "unsupported-media-type", "JSON is UTF-8")
		}
		return nil
	}
	if header == "" {
		header = "missing"
	}
	return newProblem(http.StatusUnsupportedMediaType, "unsupported-media-type",
		"the Content-Type must be "+want+", and is "+clip(header, 100))
}
