package httpapi

import (
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// The media types of request bodies.
const (
	octetStream     = "application/octet-stream"
	applicationJSON = "application/json"
)

// Headers that a page of a trusted origin may send and read, beyond those that every page may.
const (
	trustedHeaders = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"
	exposedHeaders = "Location, Allow, WWW-Authenticate"
	preflightTime  = "600" // seconds that a browser remembers the answer
)

// anOrigin matches an origin as browsers write it; it also accepts the scheme's default port.
var anOrigin = regexp.MustCompile(`^https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]{0,4})?$`)

// trusted returns the origins as browsers write them.
func trusted(origins []string) map[string]bool {
	set := make(map[string]bool)
	for _, origin := range origins {
		written := strings.ToLower(origin)
		for scheme, port := range map[string]string{"http:": ":80", "https:": ":443"} {
			if strings.HasPrefix(written, scheme) {
				written = strings.TrimSuffix(written, port)
			}
		}
		set[written] = true
	}
	return set
}

// checkOrigin refuses requests that a page of another origin makes a browser send, with any method:
// such a page must not read this API, nor occupy event streams. For pages of trusted origins it
// sets the headers of CORS, see https://fetch.spec.whatwg.org. Programs other than browsers send
// neither Origin nor Sec-Fetch-Site.
func (a *api) checkOrigin(w http.ResponseWriter, r *http.Request) error {
	header := w.Header()
	if len(a.origins) > 0 {
		header.Add("Vary", "Origin")
	}
	origin := r.Header.Get("Origin")
	if len(r.Header["Origin"]) == 1 && a.origins[origin] {
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Allow-Credentials", "true")
		header.Set("Access-Control-Expose-Headers", exposedHeaders)
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Headers", trustedHeaders)
			header.Set("Access-Control-Max-Age", preflightTime)
		}
		return nil
	}
	switch site := r.Header.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return nil
	case "": // an old browser, or no browser
	default:
		return newProblem(http.StatusForbidden, "foreign-origin", "Sec-Fetch-Site is "+clip(site, 20))
	}
	if len(r.Header["Origin"]) == 0 {
		return nil
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host) {
		return nil
	}
	return newProblem(http.StatusForbidden, "foreign-origin", "Origin is "+clip(origin, 100))
}

// checkContentType refuses a body of another type than want. If want is "" the request may have no
// body, and no Content-Type: a form of another page cannot send DELETE, and checkOrigin refuses its
// POST.
func checkContentType(r *http.Request, want string) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if coding := r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		// An image would be stored as it was sent (RFC 9110 section 8.4).
		return newProblem(http.StatusUnsupportedMediaType, "unsupported-media-type", "the Content-Encoding must be identity, and is "+clip(coding, 100))
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
