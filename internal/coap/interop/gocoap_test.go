package interop_test

import (
	"bytes"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/mux"
	gonet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/client"
	"github.com/plgd-dev/go-coap/v3/udp/server"
	"github.com/stretchr/testify/require"
)

// store is a resource of go-coap's server: the last body that was PUT, and its observers.
type store struct {
	mu        sync.Mutex
	body      []byte
	sequence  uint32
	observers map[string]func(body []byte, sequence uint32)
}

func (s *store) serve(w mux.ResponseWriter, r *mux.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Code() == codes.PUT {
		s.body, _ = r.ReadBody()
		s.sequence++
		for _, notify := range s.observers {
			go notify(bytes.Clone(s.body), s.sequence)
		}
		_ = w.SetResponse(codes.Changed, message.TextPlain, nil)
		return
	}
	if v, err := r.Observe(); err == nil && v == 0 {
		conn, token := w.Conn(), slices.Clone(r.Token())
		s.sequence = max(s.sequence, 2)
		s.observers[token.String()] = func(body []byte, sequence uint32) {
			m := conn.AcquireMessage(conn.Context())
			defer conn.ReleaseMessage(m)
			m.SetCode(codes.Content)
			m.SetToken(token)
			m.SetBody(bytes.NewReader(body))
			m.SetContentFormat(message.AppOctets)
			m.SetObserve(sequence)
			_ = conn.WriteMessage(m)
		}
		_ = w.SetResponse(codes.Content, message.AppOctets, bytes.NewReader(bytes.Clone(s.body)))
		w.Message().SetObserve(s.sequence)
		return
	}
	_ = w.SetResponse(codes.Content, message.AppOctets, bytes.NewReader(bytes.Clone(s.body)))
}

// serveGoCoAP starts go-coap's server in this process.
func serveGoCoAP(t *testing.T) netip.AddrPort {
	return serveGoCoAPAt(t, "127.0.0.1:0", blockwise.SZX1024)
}

func serveGoCoAPAt(t testing.TB, address string, szx blockwise.SZX) netip.AddrPort {
	t.Helper()
	stores := make(map[string]*store)
	var mu sync.Mutex
	router := mux.NewRouter()
	router.DefaultHandle(mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
		if r.Code() != codes.GET && r.Code() != codes.PUT { // as go-coap does by itself, also to responses
			_ = w.SetResponse(codes.NotFound, message.TextPlain, nil)
			return
		}
		path, _ := r.Path()
		mu.Lock()
		s := stores[path]
		if s == nil {
			s = &store{observers: make(map[string]func([]byte, uint32))}
			stores[path] = s
		}
		mu.Unlock()
		s.serve(w, r)
	}))
	l, err := gonet.NewListenUDP("udp4", address)
	require.NoError(t, err)
	opts := []server.Option{options.WithMux(router), options.WithInactivityMonitor(time.Minute, func(c *client.Conn) { _ = c.Close() })}
	for _, o := range goCoAPOptions(t, szx) {
		opts = append(opts, o)
	}
	s := udp.NewServer(opts...)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
		l.Close()
	})
	return l.LocalAddr().(*net.UDPAddr).AddrPort()
}

// goCoAPOption is an option for go-coap's clients and servers.
type goCoAPOption interface {
	UDPServerApply(*server.Config)
	UDPClientApply(*client.Config)
}

// goCoAPOptions replace go-coap's short time-outs. Its timer ends with the test.
func goCoAPOptions(t testing.TB, szx blockwise.SZX) []goCoAPOption {
	return []goCoAPOption{
		options.WithPeriodicRunner(periodic.New(t.Context().Done(), 10*time.Millisecond)),
		options.WithBlockwise(true, szx, time.Minute),
		options.WithErrors(func(error) {}),
		options.WithMaxMessageSize(2 << 20),
	}
}

func dialGoCoAP(t testing.TB, to netip.AddrPort, szx blockwise.SZX) *client.Conn {
	t.Helper()
	opts := []udp.Option{options.WithInactivityMonitor(time.Minute, func(c *client.Conn) { _ = c.Close() })}
	for _, o := range goCoAPOptions(t, szx) {
		opts = append(opts, o)
	}
	c, err := udp.Dial(to.String(), opts...)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = c.Close()
		<-c.Done()
	})
	return c
}

func putGoCoAP(t *testing.T, to netip.AddrPort, path string, body []byte, block int) {
	resp, err := dialGoCoAP(t, to, exponent(block)).Put(limit(t), "/"+path, message.AppOctets, bytes.NewReader(body))
	require.NoError(t, err)
	require.Equal(t, codes.Changed, resp.Code())
}

func getGoCoAP(t *testing.T, from netip.AddrPort, path string, block int) []byte {
	resp, err := dialGoCoAP(t, from, exponent(block)).Get(limit(t), "/"+path)
	require.NoError(t, err)
	require.Equal(t, codes.Content, resp.Code())
	body, err := resp.ReadBody()
	require.NoError(t, err)
	return body
}

func observeGoCoAP(t *testing.T, at netip.AddrPort, path string, texts []string) {
	seen := make(chan string, 100)
	o, err := dialGoCoAP(t, at, blockwise.SZX1024).Observe(limit(t), "/"+path, func(r *pool.Message) {
		body, err := r.ReadBody()
		if err == nil {
			seen <- string(body)
		}
	})
	require.NoError(t, err)
	for _, text := range texts {
		for text != <-seen {
			require.NoError(t, limit(t).Err())
		}
	}
	require.NoError(t, o.Cancel(limit(t)))
}

// exponent returns the exponent of a block size.
func exponent(block int) blockwise.SZX { return blockwise.SZX(bits.Len(uint(block)) - 5) }
