package door

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// helloOf returns the ClientHello of crypto/tls, with the message's header but without the
// record's.
func helloOf(t testing.TB) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		_ = tls.Client(a, &tls.Config{InsecureSkipVerify: true}).Handshake()
		_ = a.Close()
	}()
	var header [recordHeader]byte
	_, err := io.ReadFull(b, header[:])
	require.NoError(t, err)
	hello := make([]byte, binary.BigEndian.Uint16(header[3:]))
	_, err = io.ReadFull(b, hello)
	require.NoError(t, err)
	require.NoError(t, b.Close())
	return hello
}

// with appends an extension to a ClientHello.
func with(hello []byte, kind uint16, value ...byte) []byte {
	at := messageHeader + 2 + 32
	at += 1 + int(hello[at])
	at += 2 + int(binary.BigEndian.Uint16(hello[at:]))
	at += 1 + int(hello[at]) // the offset of the length of the extensions
	out := append([]byte{}, hello...)
	out = binary.BigEndian.AppendUint16(out, kind)
	out = binary.BigEndian.AppendUint16(out, uint16(len(value)))
	out = append(out, value...)
	binary.BigEndian.PutUint16(out[at:], uint16(len(out)-at-2))
	binary.BigEndian.PutUint32(out, uint32(len(out)-messageHeader)|clientHello<<24)
	return out
}

// records splits a message into records of up to size bytes.
func records(message []byte, size int) (out []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, recordHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

// peek sends data to a helloConn, piece by piece, and returns the limit that it reads.
func peek(t testing.TB, data []byte, piece int) (limit int, c *helloConn) {
	t.Helper()
	a, b := net.Pipe()
	go func() {
		defer a.Close()
		for len(data) > 0 {
			n := min(piece, len(data))
			if _, err := a.Write(data[:n]); err != nil {
				return
			}
			data = data[n:]
		}
	}()
	c = &helloConn{Conn: b}
	limit = c.limit()
	t.Cleanup(func() { _ = b.Close() })
	return limit, c
}

func TestHelloLimit(t *testing.T) {
	plain := helloOf(t)
	for _, tt := range []struct {
		name  string
		hello []byte
		want  int
	}{
		{"nothing", plain, 0},
		{"512", with(plain, extMaxFragmentLength, 1), 512},
		{"1024", with(plain, extMaxFragmentLength, 2), 1024},
		{"2048", with(plain, extMaxFragmentLength, 3), 2048},
		{"4096", with(plain, extMaxFragmentLength, 4), 4096},
		{"no such code", with(plain, extMaxFragmentLength, 0), 0},
		{"no such code", with(plain, extMaxFragmentLength, 5), 0},
		{"no such code", with(plain, extMaxFragmentLength, 255), 0},
		{"a long code", with(plain, extMaxFragmentLength, 1, 1), 0},
		{"no code", with(plain, extMaxFragmentLength), 0},
		{"record size", with(plain, extRecordSizeLimit, 2, 0), 511},
		{"the smallest record size", with(plain, extRecordSizeLimit, 0, 64), 63},
		{"too small a record size", with(plain, extRecordSizeLimit, 0, 63), 0},
		{"a record size that is none", with(plain, extRecordSizeLimit, 0x40, 1), 0},
		{"both", with(with(plain, extRecordSizeLimit, 1, 1), extMaxFragmentLength, 4), 256},
		{"both", with(with(plain, extMaxFragmentLength, 1), extRecordSizeLimit, 8, 0), 512},
		{"another extension", with(with(plain, 0xfafa), extMaxFragmentLength, 2), 1024},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{maxRecord, 100, 1} {
				for _, piece := range []int{1 << 20, 7, 1} {
					data := records(tt.hello, size)
					limit, c := peek(t, append(data, "rest"...), piece)
					require.NoError(t, c.err)
					require.Equal(t, tt.want, limit)
					again, err := io.ReadAll(io.LimitReader(c, int64(len(data)+len("rest"))))
					require.NoError(t, err)
					require.Equal(t, append(data, "rest"...), again, "TLS reads the same")
				}
			}
			for n := range tt.hello { // a truncated message must not panic
				recordLimit(tt.hello[messageHeader : messageHeader+max(0, n-messageHeader)])
			}
		})
	}
}

// TestHelloBounds: a client that sends no ClientHello, or one without end, has no limit, and
// bounded memory.
func TestHelloBounds(t *testing.T) {
	long := make([]byte, 1<<20)
	long[0], long[1] = clientHello, 0x0f
	for name, data := range map[string][]byte{
		"HTTP":           []byte("GET / HTTP/1.1\r\n\r\n"),
		"another record": records(helloOf(t), 100)[recordHeader:],
		"long message":   records(long, maxRecord),
		"byte by byte":   records(append([]byte{clientHello, 0, 0xff, 0xff}, long...), 1),
		"empty records":  make([]byte, 0),
		"no bytes":       {},
	} {
		if name == "empty records" {
			for range 100_000 {
				data = append(data, recordHandshake, 3, 1, 0, 0)
			}
		}
		limit, c := peek(t, data, 1<<20)
		require.Zero(t, limit, name)
		require.LessOrEqual(t, len(c.early), maxHello+4<<10, name)
	}
}

func FuzzHello(f *testing.F) {
	hello := helloOf(f)
	f.Add(records(with(hello, extMaxFragmentLength, 1), 50))
	f.Add(records(with(hello, extRecordSizeLimit, 1, 1), maxRecord))
	f.Fuzz(func(t *testing.T, data []byte) {
		limit, c := peek(t, data, 100)
		require.True(t, limit == 0 || limit >= 63 && limit < maxRecord, limit)
		require.LessOrEqual(t, len(c.early), len(data))
		recordLimit(data)
	})
}

// TestListenerHandsOnWhatFails: Accept returns a connection without a ClientHello in time, so that
// the server logs it, but not one that the keeper closes.
func TestListenerHandsOnWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &oneByOne{conns: make(chan net.Conn), done: make(chan struct{})}
		l := ListenTLS(inner, &tls.Config{}).(*tlsListener)
		l.keeper = NewKeeper(2)
		accepted := make(chan net.Conn)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					close(accepted)
					return
				}
				accepted <- c
			}
		}()
		dial := func() net.Conn { a, b := net.Pipe(); inner.conns <- b; return a }
		begin := time.Now()
		first := dial()
		synctest.Wait()
		second := dial() // each address has half of two
		c := <-accepted
		require.Equal(t, HandshakeTime, time.Since(begin))
		require.ErrorContains(t, c.(*tls.Conn).Handshake(), "timeout")
		_, err := first.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, second.Close())
		require.NoError(t, c.Close())

		third := dial()
		synctest.Wait()
		require.NoError(t, l.Close())
		_, err = third.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "those under way end with the listener")
		_, open := <-accepted
		require.False(t, open)
		_ = first.Close()
		_ = third.Close()
	})
}

// TestListenerLeavesNoLimit: the listener sets no deadline for what follows the handshake.
func TestListenerLeavesNoLimit(t *testing.T) {
	_, pair := testkit.SelfSigned(t, "localhost")
	synctest.Test(t, func(t *testing.T) {
		inner := &oneByOne{conns: make(chan net.Conn, 1), done: make(chan struct{})}
		l := ListenTLS(inner, &tls.Config{Certificates: []tls.Certificate{pair}})
		a, b := net.Pipe()
		inner.conns <- b
		client := tls.Client(a, &tls.Config{InsecureSkipVerify: true})
		go func() { _ = client.Handshake() }()
		server, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, server.(*tls.Conn).Handshake())
		time.Sleep(time.Hour)
		go func() { _, _ = client.Write([]byte("x")) }()
		_, err = io.ReadFull(server, make([]byte, 1))
		require.NoError(t, err)
		go func() { _, _ = server.Write([]byte("x")) }()
		_, err = io.ReadFull(client, make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, l.Close())
		_ = a.Close()
		_ = b.Close()
	})
}

// oneByOne is a listener in memory.
type oneByOne struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneByOne) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *oneByOne) Close() error   { close(l.done); return nil }
func (l *oneByOne) Addr() net.Addr { return nil }
