package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/peers"
)

// Our client pushes to and pulls from foreign servers, in blocks of every size.
func TestServersOfOthers(t *testing.T) {
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "server", "coap", "block-wise PUT and GET")
			t.Parallel()
			at := p.serve(t)
			e, to := dial(t, at, coap.Config{MaxBody: 1 << 20})
			for _, size := range sizes {
				body := bodyOf(size)
				put(t, e, to, &coap.Request{Path: []string{"r1"}, Body: bytes.NewReader(body), Size: int64(size)})
				require.True(t, bytes.Equal(body, get(t, e, to, &coap.Request{Path: []string{"r1"}})), "%d bytes", size)
			}
			for block := 16; block <= 1024; block *= 2 {
				body := bodyOf(10*block + 3)
				put(t, e, to, &coap.Request{Path: []string{"r2"}, Payload: body, BlockSize: block})
				require.True(t, bytes.Equal(body, get(t, e, to, &coap.Request{Path: []string{"r2"}, BlockSize: block})), "blocks of %d", block)
			}
			body := bodyOf(1 << 20)
			put(t, e, to, &coap.Request{Path: []string{"r3"}, Payload: body})
			var into bytes.Buffer
			get(t, e, to, &coap.Request{Path: []string{"r3"}, Into: &into})
			require.True(t, bytes.Equal(body, into.Bytes()), "1 MiB")
		})
	}
}

// Foreign clients push to our server and pull from it.
func TestClientsOfOthers(t *testing.T) {
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "client", "coap", "block-wise PUT and GET")
			t.Parallel()
			at, _ := serve(t, coap.Config{MaxBody: 1 << 20})
			for _, size := range sizes {
				body := bodyOf(size)
				p.put(t, at, "r1", body, 1024)
				require.True(t, bytes.Equal(body, p.get(t, at, "r1", 1024)), "%d bytes", size)
			}
			for _, block := range p.blocks {
				body := bodyOf(10*block + 3)
				p.put(t, at, "r2", body, block)
				require.True(t, bytes.Equal(body, p.get(t, at, "r2", block)), "blocks of %d", block)
			}
			body := bodyOf(1 << 20)
			p.put(t, at, "r3", body, 1024)
			require.True(t, bytes.Equal(body, p.get(t, at, "r3", 1024)), "1 MiB")
		})
	}
}

// Our server uses smaller blocks than the foreign client prefers.
func TestClientsOfOthersGetSmallerBlocks(t *testing.T) {
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "client", "coap", "blocks smaller than asked for")
			for _, block := range []int{16, 256} {
				at, _ := serve(t, coap.Config{BlockSize: block})
				body := bodyOf(5000)
				p.put(t, at, "r1", body, 1024)
				require.True(t, bytes.Equal(body, p.get(t, at, "r1", 1024)), "blocks of %d", block)
			}
		})
	}
}

// Our client observes on foreign servers, also notifications of several blocks.
func TestObserveServersOfOthers(t *testing.T) {
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "server", "coap", "observation")
			at := p.serve(t)
			e, to := dial(t, at, coap.Config{})
			writer, from := dial(t, at, coap.Config{})
			put(t, writer, from, &coap.Request{Path: []string{"r1"}, Payload: []byte("first")})
			seen := make(chan []byte, 100)
			o, resp, err := e.Observe(limit(t), to, &coap.Request{Code: coap.GET, Path: []string{"r1"}}, func(r *coap.Response) {
				if r != nil {
					seen <- r.Payload
				}
			})
			require.NoError(t, err)
			require.NotNil(t, o, "%v", resp)
			require.Equal(t, "first", string(resp.Payload))
			for i := range 3 {
				bodies := [][]byte{fmt.Appendf(nil, "text %d", i)}
				if p.name != "aiocoap" { // which sends notifications whole, whatever their size
					bodies = append(bodies, bodyOf(3000+i))
				}
				for _, body := range bodies {
					put(t, writer, from, &coap.Request{Path: []string{"r1"}, Payload: body})
					require.Eventually(t, func() bool {
						select {
						case got := <-seen:
							return bytes.Equal(got, body)
						default:
							return false
						}
					}, 20*time.Second, time.Millisecond)
				}
			}
			require.NoError(t, o.Cancel(limit(t)))
		})
	}
}

// Foreign clients observe on our server.
func TestObservingClientsOfOthers(t *testing.T) {
	for _, p := range others {
		t.Run(p.name, func(t *testing.T) {
			peers.Mark(t, p.name, "client", "coap", "observation")
			at, shelf := serve(t, coap.Config{})
			texts := []string{"text one", "text two", "text three"}
			go func() {
				for _, text := range texts {
					select {
					case <-shelf.observed:
						shelf.put("/r1", []byte(text))
					case <-t.Context().Done():
						return
					}
				}
			}()
			p.observe(t, at, "r1", texts)
		})
	}
}

// shelf is a handler that stores what is PUT, for GET and Observe.
type shelf struct {
	mu        sync.Mutex
	bodies    map[string][]byte
	observers map[string][]*coap.Observer
	observed  chan struct{} // an observer has got the current body
}

func newShelf() *shelf {
	return &shelf{
		bodies:    make(map[string][]byte),
		observers: make(map[string][]*coap.Observer),
		observed:  make(chan struct{}, 1),
	}
}

func (s *shelf) ServeCOAP(_ context.Context, r *coap.IncomingRequest) *coap.Response {
	path := r.Path()
	if r.Code == coap.PUT {
		s.put(path, bytes.Clone(r.Payload))
		return &coap.Response{Code: coap.Changed}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	resp := &coap.Response{Code: coap.Content, Payload: s.bodies[path], ContentFormat: coap.FormatOf(42)}
	if o := r.Accept(); o != nil {
		s.observers[path] = append(s.observers[path], o)
		resp.After = s.notices
	}
	return resp
}

func (s *shelf) notices() {
	select {
	case s.observed <- struct{}{}:
	default:
	}
}

func (s *shelf) put(path string, body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies[path] = body
	for _, o := range s.observers[path] {
		o.Notify(&coap.Response{Code: coap.Content, Payload: body, ContentFormat: coap.FormatOf(42), After: s.notices}, true)
	}
}

// serve starts our server with a shelf.
func serve(t *testing.T, config coap.Config) (netip.AddrPort, *shelf) {
	t.Helper()
	s := newShelf()
	config.Handler = s
	return serveEndpoint(t, coap.New(config)), s
}

// serveEndpoint serves e on loopback until the test ends.
func serveEndpoint(t testing.TB, e *coap.Endpoint) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- e.ServePacket(ctx, conn) }()
	t.Cleanup(func() {
		e.Close()
		cancel()
		<-done
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// dial returns our client and the peer at an address.
func dial(t testing.TB, to netip.AddrPort, config coap.Config) (*coap.Endpoint, coap.Peer) {
	t.Helper()
	e := coap.New(config)
	t.Cleanup(func() { e.Close() })
	p, err := e.Dial(t.Context(), coap.UDP, to.String())
	require.NoError(t, err)
	return e, p
}

// put and get are requests that must succeed.
func put(t testing.TB, e *coap.Endpoint, to coap.Peer, r *coap.Request) {
	t.Helper()
	r.Code, r.ContentFormat = coap.PUT, coap.FormatOf(42)
	resp, err := e.Do(limit(t), to, r)
	require.NoError(t, err)
	require.Contains(t, []coap.Code{coap.Created, coap.Changed}, resp.Code)
}

func get(t testing.TB, e *coap.Endpoint, to coap.Peer, r *coap.Request) []byte {
	t.Helper()
	r.Code = coap.GET
	resp, err := e.Do(limit(t), to, r)
	require.NoError(t, err)
	require.Equal(t, coap.Content, resp.Code)
	return resp.Payload
}

// limit returns a context that limits tests on real sockets.
func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// bodyOf returns n bytes that differ from block to block.
func bodyOf(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(b)
	return b
}
