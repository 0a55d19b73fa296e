package coap_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

// probe is called by all functions of a user. One of them runs do.
type probe struct {
	at     string
	do     func()
	inside atomic.Int32
	done   atomic.Int32
	over   atomic.Bool // none may be called any more
	late   atomic.Int32
}

func (p *probe) called(name string) {
	if p.over.Load() && slices.Contains(requestFunctions, name) == slices.Contains(requestFunctions, p.at) {
		p.late.Add(1)
	}
	if name == p.at {
		p.inside.Add(1)
		defer p.inside.Add(-1)
		p.do()
		p.done.Add(1)
	}
}

// probedBody is a user's body that calls probe.
type probedBody struct {
	*bytes.Reader
	p    *probe
	name string
}

func newProbedBody(p *probe, name string) probedBody {
	return probedBody{bytes.NewReader(bodyOf(3000)), p, name}
}

func (b probedBody) ReadAt(p []byte, off int64) (int, error) {
	b.p.called(b.name + ".ReadAt")
	return b.Reader.ReadAt(p, off)
}

func (b probedBody) Close() error {
	b.p.called(b.name + ".Close")
	return nil
}

type probedSink struct{ p *probe }

func (s probedSink) Write(b []byte) (int, error) {
	s.p.called("Sink.Write")
	return len(b), nil
}

func (s probedSink) Abort(error) { s.p.called("Sink.Abort") }

// server returns a configuration with the user's functions of a server.
func (p *probe) server(log *slog.Logger) coap.Config {
	return coap.Config{
		Logger:   log,
		OnClosed: func(coap.Peer) { p.called("OnClosed") },
		Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) {
			p.called("Sinks")
			return probedSink{p}, nil
		},
		Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			switch r.Path() {
			case "/separate":
				pass(1500 * time.Millisecond)
				return &coap.Response{Code: coap.Content, After: func() { p.called("After, separate") }}
			case "/observed":
				o := r.Accept()
				time.AfterFunc(200*time.Millisecond, func() { o.Notify(&coap.Response{Code: coap.Content}, false) })
				return &coap.Response{Code: coap.Content}
			case "/plain":
				return &coap.Response{Code: coap.Content}
			}
			p.called("handler")
			if r.Code == coap.PUT {
				return &coap.Response{Code: coap.Changed}
			}
			return &coap.Response{
				Code: coap.Content, Body: newProbedBody(p, "Body"), Size: 3000, ETag: []byte{1},
				Progress: func(int64, int64) { p.called("Response.Progress") }, After: func() { p.called("After") },
			}
		}),
	}
}

// requests begins a request of each kind, with the user's functions of a request, and leaves an
// upload incomplete there.
func (p *probe) requests(e *coap.Endpoint, to coap.Peer) {
	done := func(*coap.Response, error) { p.called("done") }
	e.Go(to, &coap.Request{
		Code: coap.PUT, Path: []string{"put"}, Body: newProbedBody(p, "Request"), Size: 3000,
		Progress: func(int64, int64) { p.called("Request.Progress") }, Notice: func(coap.Notice) { p.called("Notice") },
	}, done)
	e.Go(to, &coap.Request{
		Code: coap.GET, Path: []string{"get"}, Into: writerFunc(func(b []byte) (int, error) { p.called("Into"); return len(b), nil }),
		Begun: func([]byte, int64) { p.called("Begun") },
	}, done)
	e.Go(to, &coap.Request{Code: coap.GET, Path: []string{"separate"}}, done)
	e.GoObserve(to, &coap.Request{Code: coap.GET, Path: []string{"observed"}},
		func(*coap.Response) { p.called("notification") }, func(*coap.Observation, *coap.Response, error) { p.called("observed") })
	e.Go(to, &coap.Request{Code: coap.PUT, Path: []string{"put"}, Queries: []string{"half"}, Size: 3000, Body: readerAtFunc(func(b []byte, off int64) (int, error) {
		if off > 0 {
			return 0, errors.New("no more")
		}
		return len(b), nil
	})}, done)
}

var (
	serverFunctions = []string{
		"Sinks", "Sink.Write", "Sink.Abort", "handler", "After", "After, separate", "Body.ReadAt", "Body.Close", "Response.Progress",
	}
	requestFunctions = []string{"Request.ReadAt", "Request.Progress", "Notice", "done", "observed", "Into", "Begun", "notification"}
)

// TestFunctionsHaveReturned makes a function of a user take 2 s, or a minute, while the endpoint
// closes or stops serving. After 2 s, the function returns before the endpoint does; after a
// minute, the endpoint logs that it has not returned. In both cases no function is called later.
func TestFunctionsHaveReturned(t *testing.T) {
	for _, takes := range []time.Duration{2 * time.Second, time.Minute} {
		for _, how := range []string{"Close", "Serve"} {
			for _, name := range slices.Concat(serverFunctions, requestFunctions) {
				of := func(w *world) func() {
					switch {
					case slices.Contains(requestFunctions, name):
						return func() { w.device.Close() }
					case how == "Close":
						return func() { w.server.Close() }
					}
					return w.endServing
				}
				t.Run(takes.String()+" "+how+" "+name, func(t *testing.T) {
					logged := new(testkit.Log)
					p := &probe{at: name, do: func() { pass(takes) }}
					log := slog.New(slog.NewTextHandler(logged, nil))
					inWorld(t, p.server(log), coap.Config{Logger: log}, func(t *testing.T, w *world) {
						p.requests(w.device, w.toServer)
						for range 300 { // some are called only at the end
							if p.inside.Load() > 0 {
								break
							}
							pass(10 * time.Millisecond)
						}
						start := time.Now()
						of(w)()
						p.over.Store(true)
						require.LessOrEqual(t, elapsed(start), 10*time.Second)
						if takes < 5*time.Second {
							require.Zero(t, p.inside.Load(), "it has not returned")
							require.Positive(t, p.done.Load(), "it was not called")
						} else {
							require.Positive(t, p.inside.Load())
							require.Contains(t, logged.String(), "callbacks do not return")
						}
						pass(2 * time.Minute)
						synctest.Wait()
						require.Zero(t, p.late.Load(), "called later")
						p.over.Store(false)
					})
				})
			}
		}
	}
}

// TestFunctionsThatPanic makes a function of a user panic. The panic is logged, answered with 5.00
// where an answer depends on it, and disturbs nothing else.
func TestFunctionsThatPanic(t *testing.T) {
	for _, name := range slices.Concat(serverFunctions, requestFunctions) {
		t.Run(name, func(t *testing.T) {
			logged := new(testkit.Log)
			log := slog.New(slog.NewTextHandler(logged, nil))
			p := &probe{at: name, do: func() { panic("no") }}
			inWorld(t, p.server(log), coap.Config{Logger: log}, func(t *testing.T, w *world) {
				p.requests(w.device, w.toServer)
				pass(10 * time.Minute)
				require.Contains(t, logged.String(), "panicked")
				resp, err := w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.GET, Path: []string{"plain"}})
				require.NoError(t, err)
				require.Equal(t, coap.Content, resp.Code)
				for path, by := range map[string][]string{"put": {"Sinks", "Sink.Write", "handler"}, "get": {"handler", "Body.ReadAt"}} {
					if slices.Contains(by, name) {
						r := &coap.Request{Code: coap.GET, Path: []string{path}}
						if path == "put" {
							r.Code, r.Payload = coap.PUT, bodyOf(3000)
						}
						resp, err := w.device.Do(t.Context(), w.toServer, r)
						require.NoError(t, err)
						require.Equal(t, coap.InternalServerError, resp.Code)
					}
				}
				synctest.Wait() // an answer is sent shortly before its request ends
				require.Zero(t, coap.Underway(w.server))
				start := time.Now()
				require.NoError(t, w.server.Close())
				require.NoError(t, w.device.Close())
				require.Zero(t, elapsed(start), "nothing is waited for")
			})
		})
	}
}

// TestOnClosedHasReturned makes OnClosed slow when a listener ends.
func TestOnClosedHasReturned(t *testing.T) {
	for _, crash := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := &probe{at: "OnClosed", do: func() {
				pass(2 * time.Second)
				if crash {
					panic("no")
				}
			}}
			server, device, l := coap.New(p.server(nil)), coap.New(coap.Config{}), newPipeListener()
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error, 1)
			go func() { served <- server.ServeListener(ctx, l) }()
			peer, err := device.DialStream(ctx, l.dial())
			require.NoError(t, err)
			_, err = device.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"plain"}})
			require.NoError(t, err)
			start := time.Now()
			cancel()
			require.NoError(t, <-served)
			require.Equal(t, 2*time.Second, elapsed(start))
			require.Zero(t, p.inside.Load())
			device.Close()
			server.Close()
		})
	}
}

// TestFunctionsOfHandshakes makes the look-up of a key and the report of a failure slow, or panic.
func TestFunctionsOfHandshakes(t *testing.T) {
	for _, name := range []string{"PSK", "HandshakeFailed"} {
		for _, crash := range []bool{false, true} {
			began := make(chan struct{}, 10)
			p := &probe{at: name}
			p.do = func() {
				began <- struct{}{}
				if crash {
					panic("no")
				}
				pass(200 * time.Millisecond)
			}
			server := serveDTLS(t, coap.Config{HandshakeFailed: func(coap.Transport, netip.AddrPort, string, error) { p.called("HandshakeFailed") }}, dtls.Credentials{
				PSK: func([]byte) ([]byte, error) { p.called("PSK"); return testKey, nil },
			})
			wrong := pskClient()
			wrong.Key = []byte("wrong")
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			client := coap.New(coap.Config{})
			ctx, cancel := context.WithCancel(limit(t))
			failed := make(chan error, 1)
			go func() {
				_, err := client.DialDTLS(ctx, conn, server.addr, wrong)
				failed <- err
			}()
			<-began
			if crash {
				if name == "HandshakeFailed" {
					require.ErrorIs(t, <-failed, dtls.ErrHandshake)
				} // else it does not learn
				require.Eventually(t, func() bool { return bytes.Contains([]byte(server.logged.String()), []byte(name+" panicked")) }, 20*time.Second, time.Millisecond)
			}
			server.stop()
			require.Zero(t, p.inside.Load())
			cancel()
			if !crash || name == "PSK" {
				<-failed
			}
			client.Close()
		}
	}
}
