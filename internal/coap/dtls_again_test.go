package coap_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestNewHandshakeFromTheSameAddress replaces an association when it is
// complete, not before.
func TestNewHandshakeFromTheSameAddress(t *testing.T) {
	for _, noCID := range []bool{false, true} {
		t.Run(fmt.Sprintf("without Connection ID: %v", noCID), func(t *testing.T) {
			closed := make(chan coap.Peer, 2)
			seen := make(chan coap.Peer, 4)
			server := serveDTLS(t, coap.Config{OnClosed: func(p coap.Peer) { closed <- p }, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				seen <- r.Peer
				return &coap.Response{Code: coap.Changed}
			})}, pskOf(testIdentity, testKey))
			conn, err := net.ListenPacket("udp", "127.0.0.1:0")
			require.NoError(t, err)
			shared := &sharedConn{PacketConn: conn}
			secure := pskClient()
			secure.NoConnectionID = noCID
			dial := func(secure coap.DTLSConfig) (*coap.Endpoint, coap.Peer, error) {
				client := coap.New(coap.Config{})
				t.Cleanup(func() { client.Close() })
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				peer, err := client.DialDTLS(ctx, shared.use(), server.addr, secure)
				return client, peer, err
			}
			ask := func(client *coap.Endpoint, peer coap.Peer) coap.Peer {
				_, err := client.Do(t.Context(), peer, &coap.Request{Code: coap.POST})
				require.NoError(t, err)
				return <-seen
			}
			first, peer, err := dial(secure)
			require.NoError(t, err)
			old := ask(first, peer)

			wrong := secure
			wrong.Key = []byte("wrong")
			_, _, err = dial(wrong)
			require.ErrorIs(t, err, coap.ErrWrongKey)
			shared.back()
			require.Equal(t, old, ask(first, peer), "a handshake that fails changes nothing")

			second, peer, err := dial(secure)
			require.NoError(t, err)
			require.NotEqual(t, old, ask(second, peer))
			require.Equal(t, old, <-closed)
		})
	}
}

// sharedConn is one socket that several endpoints use after one another.
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

// back gives the socket to the user before.
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
