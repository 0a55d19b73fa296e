package lwm2m_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// picky is a server that may refuse the settings that it writes.
type picky struct {
	t        *testing.T
	endpoint *coap.Endpoint
	answer   func(r *coap.IncomingRequest) *coap.Response // nil: as a good server does

	mu   sync.Mutex
	peer coap.Peer
	seen []string
}

func (p *picky) ServeCOAP(_ context.Context, r *coap.IncomingRequest) *coap.Response {
	p.mu.Lock()
	p.peer = r.Peer
	p.seen = append(p.seen, r.Path()+"?"+strings.Join(r.Queries(), "&"))
	p.mu.Unlock()
	if answer := p.answer(r); answer != nil {
		return answer
	}
	switch {
	case r.Code == coap.DELETE:
		return &coap.Response{Code: coap.Deleted}
	case r.Path() == "/rd":
		return created()
	default:
		return &coap.Response{Code: coap.Changed}
	}
}

// got returns the requests since the last call.
func (p *picky) got() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// device returns the peer of the last message.
func (p *picky) device() coap.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peer
}

// write writes text to a resource, with PUT.
func (p *picky) write(path, text string) coap.Code {
	p.t.Helper()
	resp, err := p.endpoint.Do(p.t.Context(), p.device(), &coap.Request{
		Code: coap.PUT, Path: strings.Split(path, "/")[1:], ContentFormat: coap.FormatOf(0), Payload: []byte(text),
	})
	require.NoError(p.t, err)
	return resp.Code
}

// read reads a resource as text.
func (p *picky) read(path string) string {
	p.t.Helper()
	resp, err := p.endpoint.Do(p.t.Context(), p.device(), &coap.Request{Code: coap.GET, Path: strings.Split(path, "/")[1:]})
	require.NoError(p.t, err)
	return string(resp.Payload)
}

// withPicky runs f with a registered client of a server that answers with answer.
func withPicky(t *testing.T, answer func(r *coap.IncomingRequest) *coap.Response, change func(*lwm2m.ClientConfig),
	f func(t *testing.T, p *picky, c *lwm2m.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(1)}
		p := &picky{t: t, answer: answer}
		conn, err := w.net.Listen(serverAddress)
		require.NoError(t, err)
		p.endpoint = coap.New(coap.Config{Handler: p})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- p.endpoint.ServePacket(ctx, conn) }()
		client, stop := w.deviceStop(func(c *lwm2m.ClientConfig) {
			c.MinRetry, c.MaxRetry = time.Second, time.Minute
			if change != nil {
				change(c)
			}
		})
		require.NoError(t, client.WaitRegistered(t.Context()))
		p.got()
		f(t, p, client)
		stop()
		cancel()
		<-done
		require.NoError(t, p.endpoint.Close())
	})
}

// TestRefusedSettings: the server refuses settings that it wrote, and the client returns to the
// earlier ones.
func TestRefusedSettings(t *testing.T) {
	refuse := func(code coap.Code, what string) func(*coap.IncomingRequest) *coap.Response {
		return func(r *coap.IncomingRequest) *coap.Response {
			if slices.Contains(r.Queries(), what) {
				return &coap.Response{Code: code}
			}
			return nil
		}
	}
	for _, code := range []coap.Code{coap.BadRequest, coap.Forbidden, coap.Unauthorized, coap.BadOption, coap.InternalServerError} {
		for _, tc := range []struct{ path, text, query, before string }{
			{"/1/0/1", "4294967295", "lt=4294967295", "300"},
			{"/1/0/1", "1", "lt=1", "300"},
			{"/1/0/7", "T", "b=T", "U"},
			{"/1/0/7", "UQ", "Q", "U"},
		} {
			t.Run(code.String()+" "+tc.query, func(t *testing.T) {
				var log testkit.Log
				withPicky(t, refuse(code, tc.query), logTo(&log), func(t *testing.T, p *picky, c *lwm2m.Client) {
					require.Equal(t, coap.Changed, p.write(tc.path, tc.text))
					time.Sleep(100 * time.Millisecond)
					require.Equal(t, []string{"/rd/x?" + tc.query, "/rd/x?"}, p.got(), "and at once an Update that the server takes")
					require.True(t, c.Registered())
					require.Equal(t, tc.before, p.read(tc.path))
					require.Contains(t, log.String(), "refuses settings that it wrote")
					time.Sleep(time.Hour)
					for _, request := range p.got() {
						require.Equal(t, "/rd/x?", request)
					}
					require.True(t, c.Registered())
				})
			})
		}
	}
}

// TestAcceptedSettings: the client returns to the settings that the server accepted last.
func TestAcceptedSettings(t *testing.T) {
	withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
		if slices.Contains(r.Queries(), "lt=100") {
			return &coap.Response{Code: coap.BadRequest}
		}
		return nil
	}, nil, func(t *testing.T, p *picky, c *lwm2m.Client) {
		p.write("/1/0/1", "600")
		time.Sleep(time.Second)
		p.write("/1/0/1", "100")
		time.Sleep(time.Second)
		require.Equal(t, []string{"/rd/x?lt=600", "/rd/x?lt=100", "/rd/x?"}, p.got())
		require.Equal(t, "600", p.read("/1/0/1"))
		p.write("/1/0/1", "200")
		time.Sleep(time.Second)
		require.Equal(t, []string{"/rd/x?lt=200"}, p.got())
	})
}

// TestRefusedTooLate: the server has written other settings before it refuses.
func TestRefusedTooLate(t *testing.T) {
	withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
		if slices.Contains(r.Queries(), "lt=100") {
			time.Sleep(5 * time.Second)
			return &coap.Response{Code: coap.BadRequest}
		}
		return nil
	}, nil, func(t *testing.T, p *picky, c *lwm2m.Client) {
		p.write("/1/0/1", "100")
		time.Sleep(time.Second)
		p.write("/1/0/1", "200")
		time.Sleep(time.Minute)
		require.Equal(t, "200", p.read("/1/0/1"))
		require.Equal(t, []string{"/rd/x?lt=100", "/rd/x?lt=200"}, p.got()[:2])
	})
}

// TestRefusedAtRegister: the server forgets the registration, and accepts no new one with the
// settings that it wrote.
func TestRefusedAtRegister(t *testing.T) {
	for name, answer := range map[string]func(r *coap.IncomingRequest) *coap.Response{
		"it refuses":         func(*coap.IncomingRequest) *coap.Response { return &coap.Response{Code: coap.BadRequest} },
		"it does not answer": func(*coap.IncomingRequest) *coap.Response { time.Sleep(10 * time.Minute); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var log testkit.Log
			withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
				switch {
				case slices.Contains(r.Queries(), "lt=77") && r.Path() == "/rd":
					return answer(r)
				case slices.Contains(r.Queries(), "lt=77"):
					return &coap.Response{Code: coap.NotFound}
				}
				return nil
			}, logTo(&log), func(t *testing.T, p *picky, c *lwm2m.Client) {
				p.write("/1/0/1", "77")
				time.Sleep(time.Hour)
				require.True(t, c.Registered())
				require.Contains(t, log.String(), "refuses settings that it wrote")
				require.Equal(t, "300", p.read("/1/0/1"))
			})
		})
	}
}

// TestBusyServer: a refusal for another reason does not reset settings.
func TestBusyServer(t *testing.T) {
	for _, code := range []coap.Code{coap.ServiceUnavailable, coap.TooManyRequests, coap.NotFound} {
		var refused atomic.Bool
		withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
			switch {
			case slices.Contains(r.Queries(), "lt=78"):
				return &coap.Response{Code: coap.BadRequest}
			case slices.Contains(r.Queries(), "lt=77") && !refused.Swap(true):
				return &coap.Response{Code: code}
			}
			return nil
		}, nil, func(t *testing.T, p *picky, c *lwm2m.Client) {
			p.write("/1/0/1", "77")
			time.Sleep(10 * time.Second)
			require.True(t, c.Registered())
			require.Equal(t, "77", p.read("/1/0/1"))
			p.write("/1/0/1", "78") // the server took 77, if only by a Register
			time.Sleep(10 * time.Minute)
			require.Equal(t, "77", p.read("/1/0/1"))
		})
	}
}

// TestBusyServerKeepsRegistration: the client repeats an Update that the server refuses only for
// now, and registers again only when the registration has expired meanwhile.
func TestBusyServerKeepsRegistration(t *testing.T) {
	for _, code := range []coap.Code{coap.ServiceUnavailable, coap.TooManyRequests} {
		var is atomic.Bool
		withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
			if is.Load() && r.Path() == "/rd/x" && r.Code == coap.POST {
				return &coap.Response{Code: code}
			}
			return nil
		}, nil, func(t *testing.T, p *picky, c *lwm2m.Client) {
			is.Store(true)
			time.Sleep(210 * time.Second) // the first Update is due after 207 s
			is.Store(false)
			time.Sleep(time.Minute)
			updates := p.got()
			require.Greater(t, len(updates), 1)
			require.Less(t, len(updates), 8)
			for _, request := range updates {
				require.Equal(t, "/rd/x?", request)
			}
			require.True(t, c.Registered())
			is.Store(true)
			time.Sleep(400 * time.Second)
			require.True(t, slices.ContainsFunc(p.got(), func(request string) bool { return strings.HasPrefix(request, "/rd?") }))
			is.Store(false)
			require.True(t, c.Registered())
		})
	}
}

// TestRefusedInOtherWords: whatever code a server uses to refuse settings that it wrote, the client
// returns to the earlier ones.
func TestRefusedInOtherWords(t *testing.T) {
	for _, code := range []coap.Code{
		coap.BadRequest, coap.NotFound, coap.PreconditionFailed, coap.ServiceUnavailable, coap.TooManyRequests, coap.Valid, coap.Content,
		coap.Conflict, coap.MethodNotAllowed, coap.GatewayTimeout, coap.Code(7<<5 | 1),
	} {
		for _, version := range []string{"1.0", "1.1", "1.2"} {
			for _, forgets := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s %v", code, version, forgets), func(t *testing.T) {
					withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
						switch {
						case !slices.Contains(r.Queries(), "lt=77"):
							return nil
						case forgets && r.Path() != "/rd":
							return &coap.Response{Code: coap.NotFound}
						}
						return &coap.Response{Code: code}
					}, func(c *lwm2m.ClientConfig) { c.Version = version }, func(t *testing.T, p *picky, c *lwm2m.Client) {
						p.write("/1/0/1", "77")
						time.Sleep(time.Hour)
						seen := p.got()
						require.True(t, c.Registered(), "%q", seen)
						for _, request := range slices.Backward(seen) {
							if strings.HasPrefix(request, "/rd?") {
								require.Contains(t, request, "lwm2m="+version)
								break
							}
						}
					})
				})
			}
		}
	}
}

// TestReplaceServer replaces instance /1/0: resources that the Write does not name return to their
// initial values.
func TestReplaceServer(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		path := func(r uint16) lwm2m.Path { return lwm2m.NewPath(1, 0, r) }
		everything := []lwm2m.Entry{
			{Path: path(1), Value: lwm2m.Integer(600)}, {Path: path(2), Value: lwm2m.Integer(5)}, {Path: path(3), Value: lwm2m.Integer(50)},
			{Path: path(6), Value: lwm2m.Boolean(true)}, {Path: path(7), Value: lwm2m.String("UQ")}, {Path: path(23), Value: lwm2m.Boolean(true)},
		}
		values := func() (all []string) {
			for _, r := range []string{"1", "2", "3", "6", "7", "23"} {
				all = append(all, w.read("/1/0/"+r))
			}
			return all
		}
		began := []string{"300", "0", "0", "0", "U", "0"}
		require.Equal(t, began, values())
		for i, e := range everything {
			require.NoError(t, w.server.Write(t.Context(), endpointName, lwm2m.NewPath(1, 0), everything))
			require.Equal(t, []string{"600", "5", "50", "1", "UQ", "1"}, values())
			require.NoError(t, w.server.WritePartial(t.Context(), endpointName, lwm2m.NewPath(1, 0), []lwm2m.Entry{e}))
			require.Equal(t, []string{"600", "5", "50", "1", "UQ", "1"}, values(), "a partial Write leaves the rest")
			require.NoError(t, w.server.Write(t.Context(), endpointName, lwm2m.NewPath(1, 0), []lwm2m.Entry{e}))
			want := slices.Clone(began)
			want[i] = []string{"600", "5", "50", "1", "UQ", "1"}[i]
			require.Equal(t, want, values(), "%v", e)
		}
		bad := append(slices.Clone(everything), lwm2m.Entry{Path: path(1), Value: lwm2m.Integer(0)})[1:]
		require.Error(t, w.server.Write(t.Context(), endpointName, lwm2m.NewPath(1, 0), bad))
		require.Equal(t, []string{"300", "0", "0", "0", "U", "1"}, values(), "all or none")
	})
}

func logTo(log *testkit.Log) func(*lwm2m.ClientConfig) {
	return func(c *lwm2m.ClientConfig) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }
}
