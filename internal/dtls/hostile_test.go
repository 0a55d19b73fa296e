package dtls

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// tamper is a client's socket that changes outgoing datagrams.
type tamper struct {
	net.PacketConn
	change func(b []byte) [][]byte // returns the datagrams to send instead
}

func (c tamper) WriteTo(b []byte, to net.Addr) (int, error) {
	for _, p := range c.change(bytes.Clone(b)) {
		if _, err := c.PacketConn.WriteTo(p, to); err != nil {
			return 0, err
		}
	}
	return len(b), nil
}

func dialTampered(t *testing.T, addr netip.AddrPort, secure Credentials, change func(b []byte) [][]byte) (*user, error) {
	t.Helper()
	// Without the methods of a UDP socket, so that WriteTo is used.
	return dialOver(t, tamper{struct{ net.PacketConn }{listen(t)}, change}, addr, secure)
}

// TestOddRecordVersion accepts a client whose ClientHello is in a record of version 0xfe00, as some
// clients write it.
func TestOddRecordVersion(t *testing.T) {
	server := serve(t, pskOf(testIdentity, testKey))
	odd := 0
	client, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] == 22 && b[13] == 1 {
			b[1], b[2] = 0xfe, 0x00
			odd++
		}
		return [][]byte{b}
	})
	require.NoError(t, err)
	require.Positive(t, odd)
	client.ask(t, "hello")
}

// TestHandshakeOverBadNetwork loses every third datagram of the client, and duplicates the others.
func TestHandshakeOverBadNetwork(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	secure := Credentials{Certificate: &certs.Server, ClientCAs: certs.Roots}
	server := serve(t, secure)
	n := 0
	client, err := dialTampered(t, server.addr, Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"},
		func(b []byte) [][]byte {
			if n++; n%3 == 1 {
				return nil
			}
			return [][]byte{b, b}
		})
	require.NoError(t, err)
	client.ask(t, "hello")
}

// TestLostLastFlight loses the server's last flight. When the client repeats its own, the server
// repeats its last flight, although its handshake is complete: once for each flight, in however
// many datagrams that comes, and with new record numbers.
func TestLostLastFlight(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	both := pskOf(testIdentity, testKey)
	both.Certificate, both.ClientCAs = &certs.Server, certs.Roots
	for name, secure := range map[string]Credentials{
		"PSK":                       pskClient(),
		"PSK without Connection ID": {Identity: []byte(testIdentity), Key: testKey, NoConnectionID: true},
		"certificates":              {Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"},
		"PSK, the same records":     pskClient(), // some clients do not increment record numbers
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the tests wait for retransmissions
			server := serve(t, both)
			lost := &lossy{PacketConn: listen(t), lose: 2}
			var finished []byte // the client's first Finished
			split := tamper{struct{ net.PacketConn }{lost}, func(b []byte) (records [][]byte) {
				for len(b) > 13 {
					end := len(b)
					if b[0] != 25 {
						end = 13 + int(binary.BigEndian.Uint16(b[11:]))
					}
					record := b[:end]
					b = b[end:]
					if record[4] == 1 && finished == nil {
						finished = record
					}
					if record[4] == 1 && lost.lost() && name == "PSK, the same records" {
						record = finished
					}
					records = append(records, record)
				}
				return records
			}}
			client, err := dialOver(t, split, server.addr, secure)
			require.NoError(t, err)
			client.ask(t, "hello")
			lost.mu.Lock()
			defer lost.mu.Unlock()
			require.Len(t, lost.flights, 3, "two were lost, and one arrived")
			numbers := make(map[[2]uint64]bool)
			for _, b := range lost.flights {
				require.Len(t, b, len(lost.flights[0]))
				for _, at := range []int{3, 14 + 3} { // ChangeCipherSpec, then Finished
					number := [2]uint64{uint64(at), binary.BigEndian.Uint64(b[at:])}
					require.False(t, numbers[number], "record number %v again", number)
					numbers[number] = true
				}
			}
		})
	}
}

// lossy loses the first datagrams that begin with a ChangeCipherSpec.
type lossy struct {
	net.PacketConn
	lose    int
	mu      sync.Mutex
	flights [][]byte
}

// lost reports whether no last flight has arrived yet.
func (l *lossy) lost() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights) <= l.lose
}

func (l *lossy) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := l.PacketConn.ReadFrom(b)
	if err != nil || n == 0 || b[0] != 20 {
		return n, addr, err
	}
	l.mu.Lock()
	l.flights = append(l.flights, bytes.Clone(b[:n]))
	lost := len(l.flights) <= l.lose
	l.mu.Unlock()
	if lost {
		return l.ReadFrom(b)
	}
	return n, addr, nil
}

// TestReplays sends every record of a client twice, and some again much later. Each counts once.
func TestReplays(t *testing.T) {
	server := serve(t, pskOf(testIdentity, testKey))
	var old [][]byte
	client, err := dialTampered(t, server.addr, pskClient(), func(b []byte) [][]byte {
		if b[0] != 23 && b[0] != 25 {
			return [][]byte{b}
		}
		old = append(old, b)
		out := [][]byte{b, bytes.Clone(b)}
		forged := bytes.Clone(b)
		forged[len(forged)-1] ^= 1
		return append(out, forged, bytes.Clone(old[0]))
	})
	require.NoError(t, err)
	session := <-server.opened
	const records = 200
	for i := range records {
		require.NoError(t, client.ss.Write([]byte{byte(i)}))
		require.Equal(t, []byte{byte(i)}, <-session.in)
		require.Equal(t, []byte{byte(i)}, <-client.in)
	}
	client.ask(t, "end")
	require.Equal(t, "end", string(<-session.in), "nothing came twice")
}

// TestClose closes the session at either side: it ends at both.
func TestClose(t *testing.T) {
	for _, closes := range []string{"client", "server"} {
		t.Run(closes, func(t *testing.T) {
			server := serve(t, pskOf(testIdentity, testKey))
			client, err := dial(t, server.addr, pskClient())
			require.NoError(t, err)
			client.ask(t, "hello")
			session := <-server.opened
			require.Equal(t, testIdentity, string(session.proven.PSKIdentity))
			if closes == "client" {
				client.ss.Close()
			} else {
				server.stop()
			}
			require.Equal(t, session, <-server.closed)
			require.Equal(t, client, <-client.end.closed)
			require.ErrorIs(t, client.ss.Write(nil), net.ErrClosed)
			<-client.ss.Context().Done() // a client has one session, whose end closes the socket a moment later
			require.Empty(t, server.closed)
			require.Empty(t, client.end.closed)
		})
	}
}

// TestGarbage sends garbage to a session and to the server. Both continue to work.
func TestGarbage(t *testing.T) {
	conn := newSpoofed(t)
	server := newEnd(t, conn, Config{Credentials: pskOf(testIdentity, testKey)})
	local := listen(t)
	client, err := dialOver(t, local, server.addr, pskClient())
	require.NoError(t, err)
	alert := []byte{21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40}
	for i := range 2000 {
		b := make([]byte, i%100)
		rand.Read(b)
		if len(b) > 13 {
			b[0] = byte(20 + i%6)
			binary.BigEndian.PutUint16(b[3:], uint16(i%3))
			binary.BigEndian.PutUint16(b[11:], uint16(len(b)-13))
		}
		if i%7 == 0 {
			b = alert // anyone can send it
		}
		conn.in <- forgery{b: b, from: local.LocalAddr()}
	}
	client.ask(t, "hello")
	require.Empty(t, server.closed)
}

// TestRefusedAfterTheHandshake reports a client that rejects the handshake after its end, but not
// one that has sent data before.
func TestRefusedAfterTheHandshake(t *testing.T) {
	server := serve(t, pskOf(testIdentity, testKey))
	for _, asks := range []bool{false, true} {
		client, err := dial(t, server.addr, pskClient())
		require.NoError(t, err)
		if asks {
			client.ask(t, "hello")
		}
		require.NoError(t, client.ss.send(recordAlert, []byte{alertFatal, 48}))
		<-server.closed
		if !asks {
			require.ErrorContains(t, <-server.failed, "peer sent alert: unknown certificate authority")
		}
	}
	require.Empty(t, server.failed)
}
