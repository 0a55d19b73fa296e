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

// ListenTLS returns a listener that accepts TLS on the connections of l, and limits the size of
// records as a client asks: see firmware.NewTLSListener.
func ListenTLS(l net.Listener, config *tls.Config) net.Listener {
	return &tlsListener{
		Listener: l, config: config, small: forSmall(config),
		// The server's own keeper counts a connection after Accept.
		keeper: NewKeeper(max(2, Room()/2)), ready: make(chan accepted), closed: make(chan struct{}),
	}
}

type tlsListener struct {
	net.Listener
	config *tls.Config
	small  *tls.Config // for clients with small buffers
	keeper *Keeper     // of connections before Accept

	start  sync.Once
	ready  chan accepted
	finish sync.Once
	closed chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

// Accept returns a connection whose ClientHello has been read, or has failed. The caller makes the
// handshake of an ordinary client, as with tls.NewListener.
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

// hand passes a connection or an error to a caller of Accept, and waits for one.
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
			l.hand(nil, err) // the caller decides whether to go on
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

// greet reads the ClientHello and, for a client with small buffers, makes the handshake.
func (l *tlsListener) greet(conn net.Conn) {
	defer l.keeper.Leave(conn)
	_ = conn.SetDeadline(time.Now().Add(HandshakeTime))
	early := &helloConn{Conn: conn}
	limit := early.limit()
	if errors.Is(early.err, net.ErrClosed) || errors.Is(early.err, io.ErrClosedPipe) {
		return // the keeper, or Close, has closed it
	}
	var out net.Conn
	if limit == 0 {
		out = tls.Server(early, l.config)
	} else if secure := tls.Server(early, l.small); secure.Handshake() != nil {
		out = secure // the caller's Handshake returns the same error
	} else {
		out = &smallConn{Conn: secure, limit: limit}
	}
	_ = conn.SetDeadline(time.Time{})
	l.hand(out, nil)
}

// forSmall returns the configuration for clients with small buffers. It turns off session tickets:
// one is a message with the client's certificates, and may not fit. It turns off HTTP/2, whose
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

// A smallConn writes records of no more than limit bytes of plaintext. Its handshake is complete.
type smallConn struct {
	*tls.Conn
	limit   int
	writing sync.Mutex // keeps the pieces of two writes apart
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
