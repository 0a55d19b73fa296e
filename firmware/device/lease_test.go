package device

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// witness is an Installer that counts the calls that begin after the end of the run.
type witness struct {
	Installer
	over atomic.Bool
	late atomic.Int32
}

func (w *witness) see() {
	if w.over.Load() {
		w.late.Add(1)
	}
}

func (w *witness) LoadState(ctx context.Context) ([]byte, error) {
	w.see()
	return w.Installer.LoadState(ctx)
}

func (w *witness) SaveState(ctx context.Context, record []byte) error {
	w.see()
	return w.Installer.SaveState(ctx, record)
}

func (w *witness) Status(ctx context.Context) (InstallerStatus, error) {
	w.see()
	return w.Installer.Status(ctx)
}

func (w *witness) OpenPackage(ctx context.Context, offset, size int64) (PackageWriter, error) {
	w.see()
	out, err := w.Installer.OpenPackage(ctx, offset, size)
	return witnessWriter{out, w}, err
}

func (w *witness) Verify(ctx context.Context) (PackageInfo, error) {
	w.see()
	return w.Installer.Verify(ctx)
}

func (w *witness) Discard(ctx context.Context) error {
	w.see()
	return w.Installer.Discard(ctx)
}

func (w *witness) Apply(ctx context.Context) (bool, error) {
	w.see()
	return w.Installer.Apply(ctx)
}

type witnessWriter struct {
	PackageWriter
	w *witness
}

func (o witnessWriter) Write(p []byte) (int, error) {
	o.w.see()
	return o.PackageWriter.Write(p)
}

func (o witnessWriter) Sync() (int64, error) {
	o.w.see()
	return o.PackageWriter.Sync()
}

func (o witnessWriter) Close() error {
	o.w.see()
	return o.PackageWriter.Close()
}

// TestNothingAfterRun ends the run during a method that ignores its context. When the run has
// returned, or after a minute, no method is called.
func TestNothingAfterRun(t *testing.T) {
	for _, takes := range []time.Duration{19 * time.Second, 50 * time.Second, 10 * time.Minute} {
		for _, method := range []string{"SaveState", "OpenPackage", "Write", "Sync", "Close", "Verify", "Discard", "Apply"} {
			for _, pull := range []bool{false, true} {
				t.Run(method, func(t *testing.T) {
					hooked(t, func(r *rig, release <-chan struct{}) {
						r.config.Transport = transportFunc(func(q *http.Request) (*http.Response, error) {
							return &http.Response{
								StatusCode: 200, ProtoMajor: 2, ContentLength: -1, Request: q, Header: http.Header{"Etag": {`"one"`}},
								Body: io.NopCloser(bytes.NewReader(testImage("2.0", 100))),
							}, nil
						})
						var slow atomic.Bool
						r.spoil(method, func() {
							if slow.Load() {
								select {
								case <-time.After(takes):
								case <-release:
								}
							}
						})
						seen := &witness{}
						spoiled := r.wrap
						r.wrap = func(i Installer) Installer {
							seen.Installer = spoiled(i)
							return seen
						}
						require.NoError(r.t, r.start())
						slow.Store(method != "Apply" && method != "Discard")
						go func() {
							if pull {
								_ = r.write(resURI, lwm2m.String("http://fw.example.com/x"))
							} else {
								_ = r.push(testImage("2.0", 100), 64)
							}
						}()
						time.Sleep(time.Second)
						slow.Store(true)
						go func() {
							if method == "Apply" {
								_ = r.execute(resUpdate)
							} else {
								_ = r.write(resURI, lwm2m.String(""))
							}
						}()
						time.Sleep(time.Second)
						r.cancel()
						began := time.Now()
						ended := make(chan struct{})
						go func() {
							<-r.ended
							close(ended)
						}()
						select {
						case <-ended:
						case <-time.After(time.Minute):
						}
						if takes <= abandonAfter {
							require.Less(r.t, time.Since(began), 2*abandonAfter)
						}
						seen.over.Store(true)
						time.Sleep(time.Hour)
						<-ended
						r.ended = nil
						require.Zero(r.t, seen.late.Load(), "calls that came too late")
					})
				})
			}
		}
	}
}

// TestSelfTestEndsBeforeRun: the run waits for a SelfTest whose context has ended, and starts none
// at its end.
func TestSelfTestEndsBeforeRun(t *testing.T) {
	hooked(t, func(r *rig, _ <-chan struct{}) {
		var returned atomic.Bool
		r.onTrial(func() {
			r.config.SelfTest = func(ctx context.Context) error {
				<-ctx.Done()
				time.Sleep(19 * time.Second)
				returned.Store(true)
				return nil
			}
		})
		synctest.Wait()
		r.stop()
		require.True(r.t, returned.Load())
	})
}

// TestTransportMisbehaves: a RoundTripper of the program that panics or hangs fails the download.
func TestTransportMisbehaves(t *testing.T) {
	body := func(read func([]byte) (int, error), end func() error) transportFunc {
		return func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ProtoMajor: 2, ContentLength: -1, Header: http.Header{}, Request: r, Body: wildBody{read, end}}, nil
		}
	}
	eof := func([]byte) (int, error) { return 0, io.EOF }
	for name, transport := range map[string]func(release <-chan struct{}) transportFunc{
		"panics": func(<-chan struct{}) transportFunc {
			return func(*http.Request) (*http.Response, error) { panic("broken") }
		},
		"goes": func(<-chan struct{}) transportFunc {
			return func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }
		},
		"returns nothing": func(<-chan struct{}) transportFunc {
			return func(*http.Request) (*http.Response, error) { return nil, nil }
		},
		"hangs": func(release <-chan struct{}) transportFunc {
			return func(*http.Request) (*http.Response, error) { <-release; return nil, errors.New("late") }
		},
		"panics in Read": func(<-chan struct{}) transportFunc {
			return body(func([]byte) (int, error) { panic("broken") }, func() error { return nil })
		},
		"hangs in Read": func(release <-chan struct{}) transportFunc {
			return body(func([]byte) (int, error) { <-release; return 0, io.EOF }, func() error { return nil })
		},
		"reads more than there is": func(<-chan struct{}) transportFunc {
			return body(func(p []byte) (int, error) { return len(p) + 1, nil }, func() error { return nil })
		},
		"panics in Close": func(<-chan struct{}) transportFunc { return body(eof, func() error { panic("broken") }) },
		"hangs in Close":  func(release <-chan struct{}) transportFunc { return body(eof, func() error { <-release; return nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			hooked(t, func(r *rig, release <-chan struct{}) {
				r.config.Transport = transport(release)
				r.config.Attempts = 2
				require.NoError(r.t, r.start())
				require.NoError(r.t, r.write(resURI, lwm2m.String("http://fw.example.com/x")))
				for range 100 {
					time.Sleep(10 * time.Second)
					if r.now().State == fsm.Idle {
						break
					}
				}
				require.Equal(r.t, fsm.Idle, r.now().State)
				require.NotEqual(r.t, fsm.ResultDefault, r.now().Result)
			})
		})
	}
}

type wildBody struct {
	read func([]byte) (int, error)
	end  func() error
}

func (b wildBody) Read(p []byte) (int, error) { return b.read(p) }
func (b wildBody) Close() error               { return b.end() }

// TestTLSMisbehaves: a function of the program's tls.Config that panics fails the download.
func TestTLSMisbehaves(t *testing.T) {
	image := testImage("2.0", 1000)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(image) }))
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		want   fsm.Result
	}{
		"good":             {func(*tls.Config) {}, fsm.ResultDefault},
		"no trust":         {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, fsm.ResultConnectionLost},
		"VerifyConnection": {func(c *tls.Config) { c.VerifyConnection = func(tls.ConnectionState) error { panic("broken") } }, fsm.ResultConnectionLost},
		"VerifyPeerCertificate": {func(c *tls.Config) {
			c.VerifyPeerCertificate = func([][]byte, [][]*x509.Certificate) error { panic("broken") }
		}, fsm.ResultConnectionLost},
		"KeyLogWriter":       {func(c *tls.Config) { c.KeyLogWriter = wildWriter{} }, fsm.ResultConnectionLost},
		"ClientSessionCache": {func(c *tls.Config) { c.ClientSessionCache = wildCache{} }, fsm.ResultConnectionLost},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.config.TLS = &tls.Config{RootCAs: roots}
			tc.change(r.config.TLS)
			r.config.Attempts = 2
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
			if tc.want == fsm.ResultDefault {
				r.wait(fsm.Downloaded, fsm.ResultDefault)
			} else {
				r.wait(fsm.Idle, tc.want)
			}
			r.stop()
		})
	}
}

type wildWriter struct{}

func (wildWriter) Write([]byte) (int, error) { panic("broken") }

type wildCache struct{}

func (wildCache) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (wildCache) Put(string, *tls.ClientSessionState)        { panic("broken") }
