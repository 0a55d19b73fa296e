// Package console is a page for operators of a [github.com/otago-iot/otago/firmware.Manager]: what
// goes on in the fleet, why an update waits and until when, and what a button would do. It is one
// [http.Handler], to be mounted beside the API of package httpapi.
//
//	page, err := console.New(console.Config{API: "/ota/api/v1"})
//	...
//	http.Handle("/ota/", api)                                         // of httpapi.New
//	http.Handle("/console/", http.StripPrefix("/console", page))
//
// The page runs in the browser and uses the calls of the API, nothing else: who may see and do what
// is decided there. The handler itself serves files that are the same for everyone, and needs no
// authorization. Nothing of the page comes from another host, and there is no build step.
//
// # Credentials
//
// The browser sends its cookies, and what it knows of a login with HTTP Basic, to an API of the
// same origin, as it does for every page. When the API answers 401 with a challenge of the scheme
// Bearer, as the one of package httpapi does, the page asks for a token, keeps it in the memory of
// that tab (sessionStorage) and sends it as Authorization: Bearer. With [Config.SignIn] it leads to
// the program's own page instead. No address of the page holds a credential.
//
// # Safety
//
// The policy of the page (Content-Security-Policy) allows scripts and styles only as files of this
// handler, connections only to the API, and no page that frames it. It requires Trusted Types, so
// that no text of a device can become markup. Middleware must not replace these headers.
package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode/utf8"
)

// Config is the configuration of a page. The zero value works.
type Config struct {
	// API is the address of the API as the browser sees it, without a slash at its end: a path, or
	// a URL with http or https, if the API is on another host; httpapi.Config.TrustedOrigins then
	// has the origin of the page. Default "/api/v1".
	API string
	// Name is what the page calls this server, such as Staging: at most 64 bytes. Default "Otago".
	Name string
	// SignIn is the address of the program's own page for signing in, to which the page leads when
	// the API answers 401. Default: the page asks for a bearer token.
	SignIn string
}

//go:embed static
var files embed.FS

//go:embed shell.html
var shellText string

var shell = template.Must(template.New("shell").Parse(shellText))

// types are the media types of the files, by extension. Package mime would ask the system.
var types = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml",
}

// A file is an answer, which is the same for every request.
type file struct {
	contentType string
	cache       string // Cache-Control
	etag        string
	plain       []byte
	zipped      []byte
}

// page serves the files by path, as [http.StripPrefix] leaves it.
type page struct {
	files  map[string]file
	policy string
}

// New returns the handler of the page. Its paths begin at /, so that the program may mount it with
// [http.StripPrefix] under any prefix that ends in a slash. The error says which field of config is
// invalid, and why.
func New(config Config) (http.Handler, error) {
	if config.API == "" {
		config.API = "/api/v1"
	}
	if config.Name == "" {
		config.Name = "Otago"
	}
	connect, err := config.check()
	if err != nil {
		return nil, err
	}
	p := &page{files: make(map[string]file), policy: policy(connect)}
	return p, p.load(config)
}

// check returns the origin that the page connects to, as a source of a policy.
func (c *Config) check() (connect string, err error) {
	if len(c.Name) > 64 || !utf8.ValidString(c.Name) {
		return "", errors.New("console: Config.Name: it is no text of at most 64 bytes")
	}
	api, err := address(c.API)
	if err != nil {
		return "", fmt.Errorf("console: Config.API: %w", err)
	}
	if strings.HasSuffix(c.API, "/") || api.RawQuery != "" || api.Fragment != "" {
		return "", fmt.Errorf("console: Config.API: %.100q ends in a slash, or has a query", c.API)
	}
	if _, err := address(c.SignIn); c.SignIn != "" && err != nil {
		return "", fmt.Errorf("console: Config.SignIn: %w", err)
	}
	if api.Host == "" {
		return "'self'", nil
	}
	return api.Scheme + "://" + api.Host, nil
}

// address parses a path, or a URL of a web server. A source of a policy ends at a blank, a comma
// or a semicolon.
func address(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, err
	}
	web := u.Scheme == "http" || u.Scheme == "https"
	path := u.Scheme == "" && u.Host == "" && strings.HasPrefix(text, "/")
	if !(web && u.Host != "" || path) || u.User != nil || strings.ContainsAny(u.Host, " ,;'\"") {
		return nil, fmt.Errorf("%.100q is neither a path such as /api/v1 nor a URL such as https://ota.example.com/api/v1", text)
	}
	return u, nil
}

func policy(connect string) string {
	return strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src " + connect,
		"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
		"require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; ")
}

// load reads the files. Their folder is named by what they contain, so that browsers keep them for
// ever and never mix two versions.
func (p *page) load(config Config) error {
	sum := sha256.New()
	content := make(map[string][]byte)
	err := fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		content[strings.TrimPrefix(name, "static/")] = data
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data) // WalkDir goes in the order of names
		return err
	})
	if err != nil {
		return err
	}
	folder := "static/" + hex.EncodeToString(sum.Sum(nil)[:8]) + "/"
	var modules []string
	for name, data := range content {
		kind := types[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("console: static/%s is of no known type", name)
		}
		if path.Ext(name) == ".js" {
			modules = append(modules, name)
		}
		p.add("/"+folder+name, kind, "public, max-age=31536000, immutable", data)
	}
	var html bytes.Buffer
	err = shell.Execute(&html, map[string]any{"API": config.API, "Name": config.Name, "SignIn": config.SignIn, "Folder": folder, "Modules": sorted(modules)})
	if err != nil {
		return err
	}
	p.add("/", "text/html; charset=utf-8", "no-cache", html.Bytes())
	return nil
}

// add keeps an answer, compressed too if that is worth it.
func (p *page) add(at, contentType, cache string, data []byte) {
	sum := sha256.Sum256(data)
	f := file{contentType: contentType, cache: cache, etag: `"` + hex.EncodeToString(sum[:12]) + `"`, plain: data}
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // the level is valid
	_, _ = w.Write(data)                                  // a buffer takes everything
	_ = w.Close()
	if b.Len() < len(data) {
		f.zipped = b.Bytes()
	}
	p.files[at] = f
}
