package coap_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

// streamWorld is a server and a device over TCP on loopback.
type streamWorld struct {
	server, device     *coap.Endpoint
	toServer, toDevice coap.Peer
	addr               string
}

// serveStream serves on l until the test ends.
func serveStream(t *testing.T, e *coap.Endpoint, l net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.ServeListener(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
		require.NoError(t, e.Close())
	})
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return l
}

func newStreamWorld(t *testing.T, serverCfg, deviceCfg coap.Config) *streamWorld {
	t.Helper()
	hello := make(chan coap.Peer, 1)
	next := serverCfg.Handler
	serverCfg.Handler = handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Path() == "/hello" {
			hello <- r.Peer
			return &coap.Response{Code: coap.Changed}
		}
		return next.ServeCOAP(t.Context(), r)
	})
	w := &streamWorld{server: coap.New(serverCfg), device: coap.New(deviceCfg)}
	l := listenTCP(t)
	w.addr = l.Addr().String()
	serveStream(t, w.server, l)
	var err error
	w.toServer, err = w.device.Dial(t.Context(), coap.TCP, w.addr)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.device.Close()) })
	_, err = w.device.Do(t.Context(), w.toServer, &coap.Request{Code: coap.POST, Path: []string{"hello"}})
	require.NoError(t, err)
	w.toDevice = <-hello
	return w
}

// TestStreamTransfers transfers bodies over TCP in all four ways.
func TestStreamTransfers(t *testing.T) {
	for _, size := range []int{0, 1, 1023, 1024, 1025, 15 << 10, 16<<10 + 1, 100_000, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			body := bodyOf(size)
			var sinks = make(chan *recorder, 1)
			serve := handler(func(r *coap.IncomingRequest) *coap.Response {
				if r.Code == coap.GET {
					return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(size), ETag: []byte{1}}
				}
				got := &recorder{}
				if r.Sink != nil {
					got = r.Sink.(*recorder)
				} else {
					_, _ = got.Write(r.Payload)
				}
				sinks <- got
				return &coap.Response{Code: coap.Changed}
			})
			config := coap.Config{Handler: serve, Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return &recorder{}, nil }}
			w := newStreamWorld(t, config, config)
			for _, way := range []struct {
				from *coap.Endpoint
				to   coap.Peer
			}{{w.server, w.toDevice}, {w.device, w.toServer}} {
				resp, err := way.from.Do(t.Context(), way.to, &coap.Request{
					Code: coap.PUT, Path: []string{"5", "0", "0"}, Body: bytes.NewReader(body), Size: int64(size), BlockSize: 16 << 10,
				})
				require.NoError(t, err)
				require.Equal(t, coap.Changed, resp.Code)
				got := <-sinks
				require.True(t, bytes.Equal(body, got.buf.Bytes()), "pushed %d bytes", got.buf.Len())

				var into bytes.Buffer
				resp, err = way.from.Do(t.Context(), way.to, &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &into})
				require.NoError(t, err)
				require.Equal(t, coap.Content, resp.Code)
				require.True(t, bytes.Equal(body, into.Bytes()), "pulled %d bytes", into.Len())
			}
		})
	}
}

// TestStreamMessages counts the messages for a megabyte: one for each block, or as many blocks in
// one as the request allows.
func TestStreamMessages(t *testing.T) {
	requests, want := 0, map[int]int{0: 1024, 512: 2048, 1024: 1024, 2048: 512, 5000: 256, 16 << 10: 64, 1 << 20: 64}
	w := newStreamWorld(t, coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Changed}
	}), Sinks: func(*coap.IncomingRequest) (coap.Sink, *coap.Response) { return &recorder{}, nil }}, coap.Config{})
	for size, n := range want {
		requests = 0
		_, err := w.device.Do(t.Context(), w.toServer, &coap.Request{
			Code: coap.PUT, Path: []string{"x"}, Payload: bodyOf(1 << 20), BlockSize: size, Progress: func(int64, int64) { requests++ },
		})
		require.NoError(t, err)
		require.Equal(t, n, requests, "in pieces of %d", size)
	}
}

// TestStreamObserve observes over TCP, where the order is that of arrival.
func TestStreamObserve(t *testing.T) {
	observers := make(chan *coap.Observer, 1)
	w := newStreamWorld(t, coap.Config{Handler: handler(func(*coap.IncomingRequest) *coap.Response { return nil })},
		coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
			if o := r.Accept(); o != nil {
				observers <- o
			}
			return &coap.Response{Code: coap.Content, Payload: []byte("0")}
		})})
	values := make(chan string, 8)
	o, first, err := w.server.Observe(t.Context(), w.toDevice, &coap.Request{Code: coap.GET, Path: []string{"5", "0", "3"}},
		func(r *coap.Response) {
			if r != nil {
				values <- string(r.Payload)
			}
		})
	require.NoError(t, err)
	require.Equal(t, "0", string(first.Payload))
	observer := <-observers
	for _, v := range []string{"1", "2", "3"} {
		observer.Notify(&coap.Response{Code: coap.Content, Payload: []byte(v)}, true)
		require.Equal(t, v, <-values)
	}
	require.NoError(t, o.Cancel(t.Context()))
	<-observer.Done()
}

// TestStreamEnds ends the connection during a request, and expects OnClosed.
func TestStreamEnds(t *testing.T) {
	closed := make(chan coap.Peer, 1)
	w := newStreamWorld(t, coap.Config{OnClosed: func(p coap.Peer) { closed <- p }},
		coap.Config{Handler: coap.HandlerFunc(func(ctx context.Context, _ *coap.IncomingRequest) *coap.Response {
			<-ctx.Done()
			return nil
		})})
	failed := make(chan error, 1)
	go func() {
		_, err := w.server.Do(t.Context(), w.toDevice, &coap.Request{Code: coap.POST, Path: []string{"5", "0", "2"}})
		failed <- err
	}()
	require.Eventually(t, func() bool { return coap.Underway(w.server) == 1 }, 20*time.Second, time.Millisecond)
	w.device.Hangup(w.toServer)
	err := <-failed
	require.ErrorIs(t, err, coap.ErrPeerGone)
	require.ErrorIs(t, err, coap.ErrDeliveryUnknown)
	require.Equal(t, w.toDevice, <-closed)
	_, err = w.server.Do(t.Context(), w.toDevice, &coap.Request{Code: coap.GET})
	require.ErrorIs(t, err, coap.ErrNoPeer)
}

// TestStreamIdentity passes the verified chain of a certificate to each request, also if the TLS
// connection is wrapped.
func TestStreamIdentity(t *testing.T) {
	t.Run("tls.Conn", func(t *testing.T) { streamIdentity(t, func(l net.Listener) net.Listener { return l }) })
	t.Run("wrapped", func(t *testing.T) { streamIdentity(t, func(l net.Listener) net.Listener { return wrapper{l} }) })
}

// wrapper is a listener whose connections wrap TLS.
type wrapper struct{ net.Listener }

func (w wrapper) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return struct{ *tls.Conn }{c.(*tls.Conn)}, nil
}

func streamIdentity(t *testing.T, wrap func(net.Listener) net.Listener) {
	t.Helper()
	pool, certificate := testkit.SelfSigned(t, testIdentity)
	l := tls.NewListener(listenTCP(t), &tls.Config{
		Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, NextProtos: []string{"coap"},
	})
	proven := make(chan *dtls.Identity, 1)
	server := coap.New(coap.Config{Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		proven <- r.Identity
		return &coap.Response{Code: coap.Changed}
	})})
	serveStream(t, server, wrap(l))
	device := coap.New(coap.Config{})
	defer device.Close()
	raw, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err := device.DialStream(t.Context(), tls.Client(raw, &tls.Config{
		RootCAs: pool, Certificates: []tls.Certificate{certificate}, ServerName: "localhost", NextProtos: []string{"coap"},
	}))
	require.NoError(t, err)
	require.Equal(t, coap.TLS, peer.Transport)
	_, err = device.Do(t.Context(), peer, &coap.Request{Code: coap.POST, Path: []string{"rd"}})
	require.NoError(t, err)
	id := <-proven
	require.NotNil(t, id)
	require.Equal(t, certificate.Certificate[0], id.Certificates[0])
}

// pipeListener is a listener in memory, for virtual time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l *pipeListener) dial() net.Conn {
	here, there := net.Pipe()
	l.conns <- there
	return here
}

var (
	frameCSM  = []byte{0x00, 0xe1}
	framePing = []byte{0x01, 0xe2, 0x77}
)

// TestStreamHostile makes raw peers break the rules, in virtual time.
func TestStreamHostile(t *testing.T) {
	for _, test := range []struct {
		name  string
		send  []byte
		after time.Duration // until the connection must have ended; 0: at once
		want  []byte        // must be among the messages of the server
	}{
		{"ping", append(append([]byte{}, frameCSM...), framePing...), -1, []byte{0x01, 0xe3, 0x77}},
		{"request before CSM", []byte{0x00, 0x01}, 0, []byte{0xe5}},
		{"response before CSM", []byte{0x00, 0x45}, 0, []byte{0xe5}},
		{"ping before CSM", slices.Concat(framePing, frameCSM), 0, []byte{0xe5}},
		{"pong before CSM", slices.Concat([]byte{0x00, 0xe3}, frameCSM), 0, []byte{0xe5}},
		{"release before CSM", []byte{0x00, 0xe4}, 0, []byte{0xe5}},
		{"unknown signal before CSM", slices.Concat([]byte{0x00, 0xe9}, frameCSM), 0, []byte{0xe5}},
		{"abort before CSM", []byte{0x00, 0xe5}, 0, nil},
		{"empty before CSM", slices.Concat([]byte{0x00, 0x00}, frameCSM, framePing), -1, []byte{0x01, 0xe3, 0x77}},
		{"empty and no CSM", []byte{0x00, 0x00}, 30 * time.Second, nil},
		{"critical CSM option", []byte{0x10, 0xe1, 0x90}, 0, []byte{0xe5, 0x21, 0x09}},
		{"long token", []byte{0x09, 0xe1, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 0, []byte{0xe5}},
		{"huge frame", append(append([]byte{}, frameCSM...), 0xf0, 0xff, 0xff, 0xff, 0xff, 0x01), 0, []byte{0xe5}},
		{"bad option", append(append([]byte{}, frameCSM...), 0x10, 0x01, 0xf0), 0, []byte{0xe5}},
		{"empty keeps alive", append(append([]byte{}, frameCSM...), 0x00, 0x00), -1, nil},
		{"silent", nil, 30 * time.Second, nil},
		{"half a frame", append(append([]byte{}, frameCSM...), 0xd0), 30 * time.Second, nil},
		// When the frame begins, the reader's buffer is full, and the frame continues beyond it.
		{"part of a big frame", slices.Concat(frameCSM, make([]byte, 2046), []byte{0xe0, 0x20, 0x00, 0x01}, make([]byte, 4000)), 30 * time.Second, nil},
		{"release", append(append([]byte{}, frameCSM...), 0x00, 0xe4), 0, nil},
		{"abort", append(append([]byte{}, frameCSM...), 0x00, 0xe5), 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			inStream(t, coap.Config{}, func(t *testing.T, _ *coap.Endpoint, l *pipeListener, _ func()) {
				conn := l.dial()
				var said bytes.Buffer
				ended := make(chan time.Time, 1)
				go func() {
					_, _ = io.Copy(&said, conn)
					ended <- time.Now()
				}()
				began := time.Now()
				_, _ = conn.Write(test.send)
				time.Sleep(time.Hour)
				synctest.Wait()
				select {
				case at := <-ended:
					require.GreaterOrEqual(t, test.after, time.Duration(0), "ended after %v", at.Sub(began))
					require.InDelta(t, test.after.Seconds(), at.Sub(began).Seconds(), 1.5)
				default:
					require.Negative(t, test.after, "not ended")
				}
				require.True(t, bytes.Contains(said.Bytes(), test.want), "%x", said.Bytes())
				conn.Close()
			})
		})
	}
}

// TestConnectionsThatSayNothing makes unknown peers take all places for connections. A connection
// with a request keeps its place. For each new connection one without a request is closed, unless
// it is too young.
func TestConnectionsThatSayNothing(t *testing.T) {
	inStream(t, coap.Config{Bounds: coap.Bounds{Streams: 8}}, func(t *testing.T, _ *coap.Endpoint, l *pipeListener, _ func()) {
		type visitor struct {
			net.Conn
			ended chan struct{}
		}
		visit := func(send ...byte) visitor {
			v := visitor{l.dial(), make(chan struct{})}
			go func() {
				defer close(v.ended)
				_, _ = io.Copy(io.Discard, v)
			}()
			_, _ = v.Write(slices.Concat(frameCSM, send))
			synctest.Wait()
			return v
		}
		gone := func(v visitor) bool {
			synctest.Wait()
			select {
			case <-v.ended:
				return true
			default:
				return false
			}
		}
		device := visit(0, 1) // GET
		time.Sleep(time.Minute)
		var strangers []visitor
		for range 5 { // a quarter of the places is for TLS
			strangers = append(strangers, visit())
		}
		require.True(t, gone(visit()), "no place so soon")
		for i := range 20 {
			time.Sleep(2 * time.Second)
			require.False(t, gone(strangers[i]))
			strangers = append(strangers, visit())
			require.False(t, gone(strangers[i+5]))
			require.True(t, gone(strangers[i]), "the oldest")
			require.False(t, gone(strangers[i+1]))
		}
		require.False(t, gone(device))
		for _, v := range strangers[20:] {
			_, _ = v.Write([]byte{0, 1})
		}
		time.Sleep(2 * time.Second)
		require.True(t, gone(visit()), "all have made requests")
		require.False(t, gone(device))
		strangers[20].Close()
		synctest.Wait()
		require.False(t, gone(visit()))
	})
}

// inStream runs f with an endpoint that serves a listener in memory, in virtual time. stop ends
// Serve.
func inStream(t *testing.T, config coap.Config, f func(t *testing.T, server *coap.Endpoint, l *pipeListener, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		server := coap.New(config)
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- server.ServeListener(ctx, l) }()
		stop := sync.OnceFunc(func() {
			cancel()
			require.NoError(t, <-done)
		})
		f(t, server, l, stop)
		stop()
		require.NoError(t, server.Close())
		synctest.Wait()
		require.Zero(t, coap.Holds(server).StreamBytes)
		require.Zero(t, coap.Holds(server).Peers)
	})
}

// beSlow sends requests for ever, and reads only the first byte.
func beSlow(t *testing.T, server *coap.Endpoint, conn net.Conn, most int64) {
	_, err := io.ReadFull(conn, make([]byte, 1))
	if err == nil {
		_, err = conn.Write(frameCSM)
	}
	for err == nil {
		_, err = conn.Write([]byte{0x00, 0x01})
		if held := coap.Holds(server).StreamBytes; held > most {
			t.Errorf("%d bytes wait", held)
			return
		}
	}
}

// TestStreamSlowReader uses peers that send requests and do not read. Each is disconnected; the
// memory for one and for all is limited; others are still served.
func TestStreamSlowReader(t *testing.T) {
	large := handler(func(*coap.IncomingRequest) *coap.Response {
		return &coap.Response{Code: coap.Content, Payload: make([]byte, 900)}
	})
	t.Run("one", func(t *testing.T) {
		inStream(t, coap.Config{Handler: large}, func(t *testing.T, server *coap.Endpoint, l *pipeListener, _ func()) {
			beSlow(t, server, l.dial(), 256<<10+1000)
		})
	})
	t.Run("many", func(t *testing.T) {
		config := coap.Config{Handler: large, Bounds: coap.Bounds{StreamBytes: 100_000}}
		inStream(t, config, func(t *testing.T, server *coap.Endpoint, l *pipeListener, _ func()) {
			device := coap.New(coap.Config{})
			toServer, err := device.DialStream(t.Context(), l.dial())
			require.NoError(t, err)
			var slow sync.WaitGroup
			for range 20 {
				// Above the limit each may have a little.
				slow.Go(func() { beSlow(t, server, l.dial(), 100_000+21*5000) })
			}
			for range 100 {
				resp, err := device.Do(t.Context(), toServer, &coap.Request{Code: coap.GET})
				require.NoError(t, err)
				require.Equal(t, coap.Content, resp.Code)
			}
			slow.Wait()
			require.NoError(t, device.Close())
		})
	})
}

// TestStreamReleaseWithRequest answers the requests that a peer sent before its Release, and none
// after it.
func TestStreamReleaseWithRequest(t *testing.T) {
	for name, slow := range map[string]time.Duration{"slow": time.Second, "too slow": time.Minute} {
		t.Run(name, func(t *testing.T) {
			served := 0
			config := coap.Config{Handler: coap.HandlerFunc(func(ctx context.Context, r *coap.IncomingRequest) *coap.Response {
				served++
				select {
				case <-time.After(slow):
				case <-ctx.Done():
				}
				return &coap.Response{Code: coap.Changed}
			})}
			inStream(t, config, func(t *testing.T, _ *coap.Endpoint, l *pipeListener, _ func()) {
				conn := l.dial()
				start := time.Now()
				go func() {
					_, _ = conn.Write(frameCSM)
					_, _ = conn.Write([]byte{0x01, 0x02, 0x77}) // POST
					_, _ = conn.Write([]byte{0x00, 0xe4})       // Release
					_, _ = conn.Write([]byte{0x01, 0x02, 0x78}) // too late
				}()
				said, err := io.ReadAll(conn)
				require.NoError(t, err)
				require.Equal(t, slow == time.Second, bytes.Contains(said, []byte{0x01, byte(coap.Changed), 0x77}), "%x", said)
				require.Equal(t, min(slow, 5*time.Second), time.Since(start))
				synctest.Wait()
				require.Equal(t, 1, served)
			})
		})
	}
}

// TestStreamEndsInTime ends with many peers that read nothing: they take one second in total, not
// each.
func TestStreamEndsInTime(t *testing.T) {
	inStream(t, coap.Config{}, func(t *testing.T, _ *coap.Endpoint, l *pipeListener, stop func()) {
		var conns []net.Conn
		for range 50 {
			conns = append(conns, l.dial())
		}
		synctest.Wait()
		start := time.Now()
		stop()
		require.LessOrEqual(t, time.Since(start), time.Second)
		for _, c := range conns {
			c.Close()
		}
	})
}
