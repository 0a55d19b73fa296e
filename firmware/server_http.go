package firmware

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/otago-iot/otago/firmware/internal/door"
)

// The limits of NewHTTPServer that http.Server knows.
const (
	headerTime = 10 * time.Second
	answerTime = 2 * time.Minute
	idleTime   = time.Minute
	maxHeader  = 32 << 10
	pingTime   = 30 * time.Second

	// Of HTTP/2, for each connection. With net/http's own limits a connection may keep 250 handlers
	// and 1 MB waiting.
	maxStreams = 32
	maxUnread  = 256 << 10
)

// NewHTTPServer returns a server for handlers that strangers can reach, a [Delivery] and the
// handler of httpapi.New among others. Every wait for a client has a limit:
//
//	TLS handshake               10 s
//	header of a request         10 s, 32 KiB
//	body of a request           30 s without a byte; what no handler reads, up to 256 KiB, 10 s
//	answer                      2 min without room for 4 KiB; handlers of this module have limits of their own
//	next request                1 min
//	HTTP/2                      32 requests at once on a connection
//	connections                 an eighth of what files the process may have open, at most 8192
//	connections of one address  half of that; an IPv6 network of 64 bits counts as one address
//
// When there are too many, one more takes the place of another: of the one that has waited longest
// for a request, from the address that has most connections, or from its own; if none of these
// waits, of one at work, from an address that has at least two more. Else it is closed itself.
//
// On Linux and macOS the kernel holds at most 16 KiB that it has not sent for a connection, so that
// progress is about what a device has received, and a slow device differs from one that reads
// nothing.
//
// ErrorLog, BaseContext, TLSConfig, Addr and the limits may be set before the server serves;
// Handler, ConnState and ConnContext are taken; without ConnState nothing counts connections. A
// connection that a handler takes over (http.Hijacker) is not counted, and has no limits. Serve it
// by [RunHTTPServer], which also ends it; for HTTPS, on a [NewTLSListener].
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w, r, done := door.Limit(w, r, answerTime)
			defer done()
			handler.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: headerTime,
		// Before any handler net/http reads the body of OPTIONS *, and of an Expect that it does
		// not know. To all other bodies door.Limit gives limits of their own.
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

// drainTime is how long requests may still take when a server is to end.
const drainTime = 10 * time.Second

// RunHTTPServer serves until ctx ends, on l, which it closes, or, if l is nil, on server.Addr. Then
// it accepts nothing more, lets requests that are under way end for up to 10 s, closes what is
// left, and returns nil: a device goes on later where its download broke off. The contexts of
// requests end with ctx, which ends event streams at once, unless server.BaseContext says
// otherwise. An error is why the server could not listen, or accept.
func RunHTTPServer(ctx context.Context, server *http.Server, l net.Listener) error {
	if l == nil {
		var err error
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp", server.Addr); err != nil {
			return err
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
			_ = server.Close() // of what is closed no error is of use any more
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
// does, and keeps to the size of records that a client asks for: by max_fragment_length (RFC 6066,
// section 4), as devices do whose buffers have 512 to 4096 bytes, or by record_size_limit (RFC
// 8449). Package crypto/tls knows neither. It is for http.Server.Serve and for lwm2m.Server.Serve.
//
// Such a client gets no record with more application data than it asks for, HTTP/1.1 only, and no
// session tickets. The server echoes neither extension. Each message of the handshake, so the chain
// of certificates too, has to fit into its buffers as a whole.
//
// A ClientHello, and a handshake with such a client, may take 10 s. Of connections that have not
// come that far there are at most half as many as a server of [NewHTTPServer] has. The connections
// are *tls.Conn, or have its methods; a failed handshake is the error of HandshakeContext, so that
// an http.Server logs it.
func NewTLSListener(l net.Listener, config *tls.Config) net.Listener {
	return door.ListenTLS(l, config)
}
