package door

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// ListenTLS returns a listener that accepts TLS on the connections of l, and keeps to the size of
// records that a client asks for, see firmware.NewTLSListener.
func ListenTLS(l net.Listener, config *tls.Config) net.Listener {
	return &tlsListener{
		Listener: l, config: config, small: forSmall(config),
		// A connection is counted again, as one of the server, when it is handed on.
		keeper: NewKeeper(max(2, Room()/2)), ready: make(chan accepted), closed: make(chan struct{}),
	}
}

type tlsListener struct {
	net.Listener
	config *tls.Config
	small  *tls.Config // for clients with small buffers
	keeper *Keeper     // of connections whose ClientHello has not come

	start  sync.Once
	ready  chan accepted
	finish sync.Once
	closed chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns a connection whose client has said hello. The handshake of an ordinary one is the
// caller's business, as with tls.NewListener.
func (l *tlsListener) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.run() })
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *tlsListener) Close() error {
	l.finish.Do(func() { close(l.closed) })
	err := l.Listener.Close()
	l.keeper.Close()
	return err
}

// hand gives the caller of Accept a connection or an error, and waits for one.
func (l *tlsListener) hand(conn net.Conn, err error) {
	select {
	case l.ready <- accepted{conn, err}:
	case <-l.closed:
		if conn != nil {
			abort(conn)
		}
	}
}

func (l *tlsListener) run() {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			l.hand(nil, err) // which decides whether to accept again
			select {
			case <-l.closed:
				return
			default:
				continue
			}
		}
		if l.keeper.Enter(conn) {
			go l.greet(conn)
		}
	}
}

// greet waits for the ClientHello.
func (l *tlsListener) greet(conn net.Conn) {
	defer l.keeper.Leave(conn)
	_ = conn.SetDeadline(time.Now().Add(HandshakeTime))
	early := &helloConn{Conn: conn}
	limit := early.limit()
	if errors.Is(early.err, net.ErrClosed) || errors.Is(early.err, io.ErrClosedPipe) {
		return // it gave way to another, or nobody accepts any more
	}
	var out net.Conn
	if limit == 0 {
		out = tls.Server(early, l.config)
	} else if secure := tls.Server(early, l.small); secure.Handshake() != nil {
		out = secure // with its error, which the caller learns when it asks for the handshake
	} else {
		out = &smallConn{Conn: secure, limit: limit}
	}
	_ = conn.SetDeadline(time.Time{})
	l.hand(out, nil)
}

// forSmall returns the configuration for clients with small buffers. A ticket is a record of its
// own that holds the client's certificates, and may not fit. They have no use for HTTP/2, whose
// frames are larger.
func forSmall(config *tls.Config) *tls.Config {
	c := config.Clone()
	c.SessionTicketsDisabled = true
	c.NextProtos = slices.DeleteFunc(slices.Clone(c.NextProtos), func(p string) bool { return p == "h2" })
	if choose := c.GetConfigForClient; choose != nil {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen != nil {
				chosen = forSmall(chosen)
			}
			return chosen, err
		}
	}
	return c
}

// A smallConn is TLS whose records hold no more than the client takes. Its handshake is complete.
type smallConn struct {
	*tls.Conn
	limit   int
	writing sync.Mutex // pieces of two writes must not mix
}

// Write implements net.Conn.
func (c *smallConn) Write(p []byte) (n int, err error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	for first := true; first || err == nil && n < len(p); first = false {
		var m int
		m, err = c.Conn.Write(p[n:min(n+c.limit, len(p))])
		n += m
	}
	return n, err
}
