package dtls

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// someHello returns the first ClientHello of a client.
func someHello(t *testing.T) []byte {
	t.Helper()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hello := make(chan []byte, 1)
	go func() {
		b := make([]byte, 2048)
		n, _, err := silent.ReadFrom(b)
		if err == nil {
			hello <- b[:n]
		}
		cancel()
	}()
	client := newEnd(t, listen(t), Config{Credentials: pskClient(), Server: silent.LocalAddr().(*net.UDPAddr).AddrPort()})
	defer client.stop()
	_, err = client.Dial(ctx)
	require.ErrorIs(t, err, ErrHandshake)
	return <-hello
}

// spoofed is a server's socket that can receive datagrams from any address.
type spoofed struct {
	net.PacketConn
	in   chan forgery
	real chan forgery
}

type forgery struct {
	b    []byte
	from net.Addr
	err  error
}

func newSpoofed(t *testing.T) *spoofed {
	conn := listen(t)
	s := &spoofed{PacketConn: conn, in: make(chan forgery), real: make(chan forgery)}
	go func() {
		for {
			b := make([]byte, 4096)
			n, from, err := conn.ReadFrom(b)
			s.real <- forgery{b[:n], from, err}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *spoofed) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-s.real:
		return copy(b, p.b), p.from, p.err
	case p := <-s.in:
		return copy(b, p.b), p.from, nil
	}
}

// TestFloodOfHandshakes begins very many handshakes from forged addresses. Their cost is limited,
// and a device can still connect.
func TestFloodOfHandshakes(t *testing.T) {
	const limit, flood = 1000, 6000
	hello := someHello(t)
	conn := newSpoofed(t)
	server := newEnd(t, conn, Config{Credentials: pskOf(testIdentity, testKey)})

	before, goroutines := used(), runtime.NumGoroutine()
	most, mostGoroutines := 0, 0
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		for i := range flood {
			b := bytes.Clone(hello)
			rand.Read(b[27:59])
			conn.in <- forgery{b: b, from: &net.UDPAddr{IP: net.IPv4(127, 1, byte(i>>16), byte(i>>8)), Port: 1024 + i&0xff}}
			if i%1000 == 999 {
				most, mostGoroutines = max(most, used()), max(mostGoroutines, runtime.NumGoroutine())
			}
		}
	}()
	in, tries := 0, 0
	for over := false; !over; tries++ {
		if client, err := dial(t, server.addr, pskClient()); err == nil {
			client.ask(t, "hello")
			client.end.stop()
			in++
		}
		select {
		case <-flooded:
			over = true
		default:
		}
	}
	t.Logf("%d of %d devices got in; %d KB per half-open handshake, %d goroutines in all",
		in, tries, (most-before)/limit/1024, mostGoroutines-goroutines)
	require.Greater(t, in, tries/2)
	require.Less(t, most-before, limit*80<<10+4<<20)
	require.Less(t, mostGoroutines-goroutines, limit*8+100)
	server.stop()
}

// TestHandshakeThatGaveWay checks that the client of a dropped handshake gets an alert and can
// start again.
func TestHandshakeThatGaveWay(t *testing.T) {
	hello := someHello(t)
	conn := newSpoofed(t)
	server := newEnd(t, conn, Config{Credentials: pskOf(testIdentity, testKey), Handshakes: 1})
	hellos := 0
	_, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] == 22 && b[13] == 1 {
			if hellos++; hellos == 2 {
				// This ends the handshake just before the client returns with its cookie.
				<-time.After(600 * time.Millisecond)
				conn.in <- forgery{b: hello, from: &net.UDPAddr{IP: net.IPv4(127, 1, 0, 1), Port: 1024}}
			}
		}
		return [][]byte{b}
	})
	require.ErrorIs(t, err, ErrHandshake)
	require.ErrorContains(t, err, "HandshakeFailure")
	client, err := dial(t, server.addr, pskClient())
	require.NoError(t, err)
	client.ask(t, "hello")
	server.stop()
}

// TestTalkativeHandshakes makes peers send messages of handshakes that never complete. The server
// does not keep them.
func TestTalkativeHandshakes(t *testing.T) {
	const peers = 50
	hello := someHello(t)
	conn := newSpoofed(t)
	server := newEnd(t, conn, Config{Credentials: pskOf(testIdentity, testKey)})
	before := used()
	for i := range peers {
		from := &net.UDPAddr{IP: net.IPv4(127, 1, 0, byte(i)), Port: 1024}
		conn.in <- forgery{b: hello, from: from}
		for n := range 1000 {
			// Later messages of the handshake, each one byte short.
			b := make([]byte, 1200)
			copy(b, []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, byte(n >> 8), byte(n)})
			binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
			copy(b[13:], []byte{16, 0, 4, 0x94, byte((n + 5) >> 8), byte(n + 5), 0, 0, 0, 0, 4, 0x93})
			conn.in <- forgery{b: b, from: from}
		}
	}
	require.Less(t, used()-before, peers*100<<10)
	server.stop()
}

// TestSessionsOfOneIdentity checks which session ends when an identity has too many.
func TestSessionsOfOneIdentity(t *testing.T) {
	server := newEnd(t, listen(t), Config{Credentials: pskOf(testIdentity, testKey), IdentitySessions: 2})
	var clients, sessions []*user
	for n := range 12 {
		client, err := dial(t, server.addr, pskClient())
		require.NoError(t, err)
		clients, sessions = append(clients, client), append(sessions, <-server.opened)
		if n < 8 {
			require.Empty(t, server.closed)
		} else {
			require.Equal(t, sessions[n-8], <-server.closed)
			require.Equal(t, clients[n-8], <-clients[n-8].end.closed)
		}
	}
}

// used returns the memory in use: heap and stacks. What pools hold outlives one collection.
func used() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
