package console

import (
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

// ServeHTTP sends a file, or 404. Views are addressed by fragments, which browsers do not send: so
// the page has one path under any prefix and behind any proxy, and no log gets names of devices.
func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", p.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	if r.URL.Path == "" { // the prefix without its slash, from which the page would not find its files
		seen, _, _ := strings.Cut(r.RequestURI, "?")
		header.Set("Location", "./"+path.Base(seen)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	f, ok := p.files[r.URL.Path]
	if !ok {
		header.Set("Cache-Control", "no-store")
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	f.send(w, r)
}

func (f file) send(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", f.cache)
	header.Set("Vary", "Accept-Encoding")
	body, etag := f.plain, f.etag
	if f.zipped != nil && acceptsGzip(r) {
		body, etag = f.zipped, strings.TrimSuffix(etag, `"`)+`-gzip"`
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), etag) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", f.contentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the client has gone
	}
}

// acceptsGzip reports whether a client takes gzip (RFC 9110, section 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		_, q, _ := strings.Cut(strings.TrimSpace(weight), "=")
		return q == "" || strings.Trim(q, "0.") != ""
	}
	return false
}

// matches compares weakly, as If-None-Match does (RFC 9110, section 13.1.2).
func matches(list, etag string) bool {
	for known := range strings.SplitSeq(list, ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == etag || known == "*" {
			return true
		}
	}
	return false
}
