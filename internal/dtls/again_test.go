package dtls

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNewHandshakeFromTheSameAddress checks that a session is replaced only when the new handshake
// is complete.
func TestNewHandshakeFromTheSameAddress(t *testing.T) {
	for _, noCID := range []bool{false, true} {
		t.Run(fmt.Sprintf("without Connection ID: %v", noCID), func(t *testing.T) {
			server := serve(t, pskOf(testIdentity, testKey))
			shared := &sharedConn{PacketConn: listen(t)}
			secure := pskClient()
			secure.NoConnectionID = noCID
			first, err := dialOver(t, shared.use(), server.addr, secure)
			require.NoError(t, err)
			first.ask(t, "1")
			old := <-server.opened

			wrong := secure
			wrong.Key = []byte("wrong")
			_, err = dialOver(t, shared.use(), server.addr, wrong)
			require.ErrorIs(t, err, ErrWrongKey)
			shared.back()
			first.ask(t, "2")
			require.Equal(t, "1", string(<-old.in))
			require.Equal(t, "2", string(<-old.in), "a handshake that fails changes nothing")

			second, err := dialOver(t, shared.use(), server.addr, secure)
			require.NoError(t, err)
			second.ask(t, "3")
			require.Equal(t, "3", string(<-(<-server.opened).in))
			require.Equal(t, old, <-server.closed)
		})
	}
}

// sharedConn is one socket that several endpoints use one after the other.
type sharedConn struct {
	net.PacketConn
	mu    sync.Mutex
	users []*sharedUser
	once  sync.Once
}

type sharedUser struct {
	*sharedConn
	in   chan []byte
	from net.Addr
	done chan struct{}
	end  sync.Once
}

func (c *sharedConn) use() *sharedUser {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &sharedUser{sharedConn: c, in: make(chan []byte, 64), done: make(chan struct{})}
	c.users = append(c.users, u)
	c.once.Do(func() {
		go func() {
			b := make([]byte, 4096)
			for {
				n, from, err := c.PacketConn.ReadFrom(b)
				if err != nil {
					return
				}
				c.mu.Lock()
				u := c.users[len(c.users)-1]
				c.mu.Unlock()
				u.from = from
				u.in <- bytes.Clone(b[:n])
			}
		}()
	})
	return u
}

// back returns the socket to its previous user.
func (c *sharedConn) back() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.users = c.users[:len(c.users)-1]
}

func (u *sharedUser) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-u.in:
		return copy(b, p), u.from, nil
	case <-u.done:
		return 0, nil, net.ErrClosed
	}
}

func (u *sharedUser) Close() error {
	u.end.Do(func() { close(u.done) })
	u.mu.Lock()
	defer u.mu.Unlock()
	if u == u.users[0] {
		return u.PacketConn.Close()
	}
	return nil
}
