package firmware

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/otago-iot/otago/firmware/internal/door"
)

// The limits of NewHTTPServer that are fields of http.Server.
const (
	headerTime = 10 * time.Second
	answerTime = 2 * time.Minute
	idleTime   = time.Minute
	maxHeader  = 32 << 10
	pingTime   = 30 * time.Second

	// The limits of each HTTP/2 connection. Those of net/http allow 250 handlers and 1 MB.
	maxStreams = 32
	maxUnread  = 256 << 10
)

// HTTPConfig is the configuration of an HTTP server. Its zero value is that of [NewHTTPServer].
type HTTPConfig struct {
	// MaxConnections bounds the connections, and so the downloads at the same time. One address may
	// have half of them. Default: an eighth of the files that the process may open, at most 8192.
	MaxConnections int
	// Gate reports whether the server may answer, as that of lwm2m.ServerConfig. It is asked before
	// each piece of an answer; while it returns false, connections end instead. Default: always
	// true.
	Gate func() bool
	// Open reports whether a request is answered whatever Gate returns, such as one that asks for
	// the server's health: see Health of package httpapi. Default: none is.
	Open func(*http.Request) bool
}

// NewServer returns a server as [NewHTTPServer] does.
func (c HTTPConfig) NewServer(handler http.Handler) *http.Server {
	if c.Gate != nil {
		handler = gated(handler, c.Gate, c.Open)
	}
	server := NewHTTPServer(handler)
	if c.MaxConnections > 0 {
		server.ConnState = door.NewKeeper(c.MaxConnections).State
	}
	return server
}

// gated returns a handler whose answers end when open returns false, except to the requests that
// always selects.
func gated(handler http.Handler, open func() bool, always func(*http.Request) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if always != nil && always(r) {
			handler.ServeHTTP(w, r)
			return
		}
		g := &gatedWriter{w, open}
		g.check()
		handler.ServeHTTP(g, r)
		g.check() // what the server still has of the answer does not leave
	})
}

type gatedWriter struct {
	http.ResponseWriter
	open func() bool
}

// check ends the connection if the gate is not open.
func (w *gatedWriter) check() {
	if !w.open() {
		panic(http.ErrAbortHandler)
	}
}

func (w *gatedWriter) WriteHeader(status int) {
	w.check()
	w.ResponseWriter.WriteHeader(status)
}

func (w *gatedWriter) Write(b []byte) (int, error) {
	w.check()
	return w.ResponseWriter.Write(b)
}

func (w *gatedWriter) FlushError() error {
	w.check()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *gatedWriter) Flush() { _ = w.FlushError() } // Flusher has no error

// Unwrap is for http.ResponseController.
func (w *gatedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// NewHTTPServer returns a server for handlers that untrusted clients can reach, such as a
// [Delivery] and the handler of httpapi.New. Every wait for a client has a limit:
//
//	TLS handshake               10 s
//	header of a request         10 s, 32 KiB
//	body of a request           30 s without a byte; 10 s and 256 KiB if no handler reads it
//	answer                      2 min without room for 4 KiB; handlers of this module have their own limits
//	next request                1 min
//	HTTP/2                      32 requests at once on a connection
//	connections                 an eighth of the files that the process may open, at most 8192; see [HTTPConfig]
//	connections of one address  half of that; an IPv6 network of 64 bits counts as one address
//
// When there are too many connections, a new one replaces another: the one that has waited longest
// for a request, of the address that has the most connections, or of its own address; if none of
// these waits, one at work, of an address that has at least two more. Else the server closes the
// new one.
//
// On Linux and macOS the kernel holds at most 16 KiB of unsent data for a connection. So progress
// is close to what a device has received, and the server can tell a slow device from one that does
// not read.
//
// A program may set ErrorLog, BaseContext, TLSConfig, Addr and the limits before the server serves.
// TLSConfig alone makes no HTTPS on a listener of the program: give it to [NewTLSListener]. It must
// keep Handler, ConnState and ConnContext, which bound waits, connections and unsent data. A
// hijacked connection (http.Hijacker) is not counted, and has no limits. Run the server with
// [RunHTTPServer]; for HTTPS, on a [NewTLSListener].
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w, r, done := door.Limit(w, r, answerTime, door.Piece)
			defer done()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTime,
		// net/http itself reads the body of OPTIONS *, and of a request with an unknown Expect,
		// before any handler. door.Limit sets the limits of all other bodies.
		ReadTimeout:    headerTime,
		WriteTimeout:   answerTime,
		IdleTimeout:    idleTime,
		MaxHeaderBytes: maxHeader,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingTime, WriteByteTimeout: pingTime,
			MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: maxUnread, MaxReceiveBufferPerStream: maxUnread,
		},
		ConnState: door.NewKeeper(door.Room()).State,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			door.Pace(c)
			return ctx
		},
	}
}

// drainTime is how long RunHTTPServer waits for requests when it ends.
const drainTime = 10 * time.Second

// RunHTTPServer serves on l, which it closes, or, if l is nil, on server.Addr: by HTTPS then if
// server.TLSConfig is set. When ctx ends it stops accepting, waits up to 10 s for requests under
// way, closes the connections that are left, and returns nil; a device resumes its download later.
// The contexts of requests, and so event streams, end with ctx, unless server.BaseContext is set.
// An error says why the server could not listen or accept.
func RunHTTPServer(ctx context.Context, server *http.Server, l net.Listener) error {
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", server.Addr); err != nil {
			return err
		}
		if server.TLSConfig != nil {
			l = NewTLSListener(l, server.TLSConfig)
		}
	}
	if server.BaseContext == nil {
		server.BaseContext = func(net.Listener) context.Context { return ctx }
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if server.Shutdown(drain) != nil {
			_ = server.Close() // nothing is left to do about an error
		}
	})
	err := server.Serve(l)
	if stop() { // ctx has not ended, but serving has
		return err
	}
	<-ended
	return nil
}

// NewTLSListener returns a listener that accepts TLS on the connections of l, as tls.NewListener
// does, and limits the size of records as a client asks: by max_fragment_length (RFC 6066, section
// 4), for devices whose buffers have 512 to 4096 bytes, or by record_size_limit (RFC 8449). Package
// crypto/tls supports neither. Use it with http.Server.Serve and lwm2m.Server.Serve.
//
// Such a client gets no record with more application data than its limit, no HTTP/2, and no session
// tickets. The server echoes neither extension. Each message of the handshake, and so the chain of
// certificates, must fit into the client's buffers.
//
// A ClientHello, and a handshake with such a client, may take 10 s in all. The number of
// connections in this stage is at most half of that of a server of [NewHTTPServer]. The accepted
// connections are *tls.Conn, or have its methods. HandshakeContext returns the error of a failed
// handshake, so that an http.Server logs it.
func NewTLSListener(l net.Listener, config *tls.Config) net.Listener {
	return door.ListenTLS(l, config)
}
