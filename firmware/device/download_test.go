package device

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

func newReader(b []byte) *bytes.Reader { return bytes.NewReader(b) }

// cut writes the header of a response and a part of its body, and closes the connection.
func cut(w http.ResponseWriter, body []byte) {
	w.Write(body)
	w.(http.Flusher).Flush()
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// TestDownloadServers downloads from servers that misbehave. n counts the requests from 1.
func TestDownloadServers(t *testing.T) {
	image := testImage("2.0", 50000)
	other := testImage("3.0", 50000)
	whole := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, "", time.Time{}, newReader(image))
	}
	part := func(w http.ResponseWriter, from, to int) {
		w.Header().Set("ETag", `"one"`)
		w.Header().Set("Content-Length", fmt.Sprint(len(image)-from))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(image)-1, len(image)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		cut(w, image[from:to])
	}
	status := func(code int) func(int, http.ResponseWriter, *http.Request) {
		return func(n int, w http.ResponseWriter, r *http.Request) { w.WriteHeader(code) }
	}
	tests := map[string]struct {
		serve    func(n int, w http.ResponseWriter, r *http.Request)
		config   func(*Config)
		version  string // "" if it fails
		result   fsm.Result
		requests int
	}{
		"cut, then resumed": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					part(w, 0, 20000)
					return
				}
				if r.Header.Get("Range") == "" || r.Header.Get("If-Match") != `"one"` {
					w.WriteHeader(http.StatusTeapot)
					return
				}
				whole(w, r)
			}, version: "2.0", requests: 2,
		},
		"cut without end": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) { part(w, 0, 0) }, result: fsm.ResultConnectionLost, requests: 5,
		},
		"a little further each time": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				var from int
				fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
				part(w, from, min(from+5000, len(image)))
			}, version: "2.0", requests: 10,
		},
		"cut in the middle, no ETag": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", fmt.Sprint(len(image)))
				cut(w, image[:20000])
			}, result: fsm.ResultConnectionLost, requests: 5,
		},
		"cut in the middle, weak ETag": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `W/"one"`)
				if n == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(len(image)))
					cut(w, image[:20000])
					return
				}
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusTeapot)
					return
				}
				w.Write(image)
			}, version: "2.0", requests: 2,
		},
		"changed while away: 412": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					part(w, 0, 20000)
					return
				}
				w.Header().Set("ETag", `"two"`)
				http.ServeContent(w, r, "", time.Time{}, newReader(other))
			}, version: "3.0", requests: 3,
		},
		"changed while away: part of another": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					part(w, 0, 20000)
					return
				}
				r.Header.Del("If-Match") // a server that ignores the header
				w.Header().Set("ETag", `"two"`)
				http.ServeContent(w, r, "", time.Time{}, newReader(other))
			}, version: "3.0", requests: 3,
		},
		"no ranges: all of it again": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					part(w, 0, 20000)
					return
				}
				w.Header().Set("ETag", `"two"`)
				w.Write(other)
			}, version: "3.0", requests: 2,
		},
		"part from an earlier byte": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n == 1 {
					part(w, 0, 20000)
					return
				}
				part(w, 10000, len(image))
			}, version: "2.0", requests: 2,
		},
		"part from a later byte": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				switch n {
				case 1:
					part(w, 0, 20000)
				case 2:
					part(w, 30000, len(image))
				default:
					whole(w, r)
				}
			}, version: "2.0", requests: 3,
		},
		"416": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				switch n {
				case 1:
					part(w, 0, 20000)
				case 2:
					w.Header().Set("Content-Range", "bytes */100")
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
				default:
					whole(w, r)
				}
			}, version: "2.0", requests: 3,
		},
		"416 for ever": {serve: status(http.StatusRequestedRangeNotSatisfiable), result: fsm.ResultConnectionLost, requests: 5},
		"shorter than announced": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "60000")
				cut(w, image)
			}, result: fsm.ResultConnectionLost, requests: 5,
		},
		"no length, HTTP/1.0": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				conn, _, _ := w.(http.Hijacker).Hijack()
				conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\n"))
				conn.Write(image)
				conn.Close()
			}, result: fsm.ResultConnectionLost, requests: 5, // the package could have been cut anywhere
		},
		"gzip that nobody asked for": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Write([]byte("\x1f\x8b"))
			}, result: fsm.ResultUnsupFirmware, requests: 1,
		},
		"404": {serve: status(404), result: fsm.ResultInvalidURI, requests: 1},
		"403": {serve: status(403), result: fsm.ResultInvalidURI, requests: 1},
		"503": {serve: status(503), result: fsm.ResultConnectionLost, requests: 5},
		"503, then well": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if n < 4 {
					w.Header().Set("Retry-After", "3600")
					w.WriteHeader(503)
					return
				}
				whole(w, r)
			}, version: "2.0", requests: 4,
		},
		"204": {serve: status(204), result: fsm.ResultConnectionLost, requests: 5},
		"redirect": {
			serve:  func(n int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) },
			result: fsm.ResultInvalidURI, requests: 1,
		},
		"redirect, allowed": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/there" {
					http.Redirect(w, r, "/there", http.StatusFound)
					return
				}
				whole(w, r)
			}, config: func(c *Config) { c.MaxRedirects = 1 }, version: "2.0", requests: 2,
		},
		"redirect, without telling where from": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != "/there":
					http.Redirect(w, r, "/there", http.StatusFound)
				case r.Header.Get("Referer") != "":
					w.WriteHeader(http.StatusTeapot)
				default:
					whole(w, r)
				}
			}, config: func(c *Config) { c.MaxRedirects = 1 }, version: "2.0", requests: 2,
		},
		"part of nothing": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				switch n {
				case 1:
					part(w, 0, 20000)
				case 2:
					w.Header().Set("ETag", `"one"`)
					w.Header().Set("Content-Range", fmt.Sprintf("bytes */%d", len(image)))
					w.WriteHeader(http.StatusPartialContent)
					w.Write(make([]byte, 60000))
				default:
					whole(w, r)
				}
			}, version: "2.0", requests: 3,
		},
		"redirect in circles": {
			serve:  func(n int, w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) },
			config: func(c *Config) { c.MaxRedirects = 3 }, result: fsm.ResultInvalidURI, requests: 4,
		},
		"redirect to a host that is not allowed": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://other.invalid/", http.StatusFound)
			},
			config: func(c *Config) {
				c.MaxRedirects, c.Hosts = 3, []string{"127.0.0.1"}
			}, result: fsm.ResultInvalidURI, requests: 1,
		},
		"bigger than allowed": {
			serve:  func(n int, w http.ResponseWriter, r *http.Request) { whole(w, r) },
			config: func(c *Config) { c.MaxSize = 49999 }, result: fsm.ResultNoStorage, requests: 1,
		},
		"bigger than allowed, unannounced": {
			serve: func(n int, w http.ResponseWriter, r *http.Request) {
				for range 1000 {
					if _, err := w.Write(image); err != nil {
						return
					}
				}
			},
			config: func(c *Config) { c.MaxSize = 200000 }, result: fsm.ResultNoStorage, requests: 1,
		},
		"not a package": {
			serve:  func(n int, w http.ResponseWriter, r *http.Request) { w.Write([]byte("<html>")) },
			result: fsm.ResultUnsupFirmware, requests: 1,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tc.serve(int(requests.Add(1)), w, r)
			}))
			defer server.Close()
			r := newRig(t)
			if tc.config != nil {
				tc.config(&r.config)
			}
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
			if tc.version == "" {
				r.wait(fsm.Idle, tc.result)
			} else {
				require.Equal(t, tc.version, r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
			}
			require.EqualValues(t, tc.requests, requests.Load(), "requests")
			r.stop()
		})
	}
}

func TestDownloadRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l.Close()
	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String("http://"+l.Addr().String()+"/fw")))
	r.wait(fsm.Idle, fsm.ResultConnectionLost)
	require.Equal(t, "http://"+l.Addr().String()+"/fw", r.now().URI, "the URI stays")
}

func TestDownloadHTTPS(t *testing.T) {
	image := testImage("2.0", 2000)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(image) }))
	defer server.Close()
	server.Config.ErrorLog = discardLog()

	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
	r.wait(fsm.Idle, fsm.ResultConnectionLost) // the certificate's authority is unknown
	r.stop()

	r.config.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
	r.wait(fsm.Downloaded, fsm.ResultDefault)
}

// FuzzSource: no value of 5/0/1 makes a device with a fixed host contact another host.
func FuzzSource(f *testing.F) {
	f.Add("/a/b")
	f.Add("//evil/x")
	f.Add("/\\evil/x")
	f.Add("/%2f%2fevil:99/")
	fixed := Config{FixedHost: "https://fw.example.com"}.withDefaults()
	open := Config{Hosts: []string{"fw.example.com"}}.withDefaults()
	f.Fuzz(func(t *testing.T, uri string) {
		for _, config := range []Config{fixed, open} {
			u, err := config.source(uri)
			if err != nil {
				if r := resultOf(err, 0); r != fsm.ResultInvalidURI && r != fsm.ResultUnsupProtocol {
					t.Fatalf("%q: result %v", uri, r)
				}
				continue
			}
			request, err := http.NewRequest(http.MethodGet, u.String(), nil)
			if err != nil {
				continue
			}
			if request.URL.Hostname() != "fw.example.com" || request.URL.User != nil {
				t.Fatalf("%q leads to %q", uri, request.URL)
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes */10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		span, err := contentRange([]string{s})
		known := span.total >= 0
		if err == nil && (span.first < -1 || span.last < span.first || !known && span.first < 0 || known && span.last >= span.total) {
			t.Fatalf("%q: %v", s, span)
		}
	})
}

func TestServerCredentials(t *testing.T) {
	keys := lwm2m.FetchConfig{PSKIdentity: "me", PSK: []byte{1}}
	of := ServerCredentials("coaps://lwm2m.example.com", keys)
	require.Equal(t, keys, of("LWM2M.example.com:5684"))
	for _, other := range []string{"lwm2m.example.com:5685", "evil.example:5684", "lwm2m.example.com.evil.example:5684", ""} {
		require.Zero(t, of(other).PSK, other)
	}
	require.Zero(t, ServerCredentials("::", keys)(":5684").PSK)
}
