package lwm2m_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/peers"
	"github.com/otago-iot/otago/lwm2m"
)

// capturedMessage is a whole datagram of a real client, from testdata/captured_messages.json.
type capturedMessage struct {
	Name    string
	Client  string
	Path    string
	Code    string
	Query   []string
	Hex     string
	Message string `json:"message_hex"`
}

func capturedMessages(t *testing.T, path string) []capturedMessage {
	t.Helper()
	text, err := os.ReadFile("testdata/captured_messages.json")
	require.NoError(t, err)
	var file struct{ Vectors []capturedMessage }
	require.NoError(t, json.Unmarshal(text, &file))
	var found []capturedMessage
	for _, m := range file.Vectors {
		if m.Path == path && m.Code == "0.02" && m.Message != "" && !strings.Contains(m.Name, "tcp") {
			found = append(found, m)
		}
	}
	return found
}

// rawPeer sends datagrams as they are.
type rawPeer struct {
	t    *testing.T
	conn net.PacketConn
	to   net.Addr
}

func (w *world) rawPeer() *rawPeer {
	w.t.Helper()
	conn, err := w.net.Listen(deviceAddress)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { conn.Close() })
	to, err := net.ResolveUDPAddr("udp", serverAddress)
	require.NoError(w.t, err)
	return &rawPeer{t: w.t, conn: conn, to: to}
}

func (p *rawPeer) send(datagram []byte) {
	p.t.Helper()
	_, err := p.conn.WriteTo(datagram, p.to)
	require.NoError(p.t, err)
}

// ask sends a datagram, given in hexadecimal digits, and returns the answer, nil if none comes
// within a second.
func (p *rawPeer) ask(digits string) []byte {
	p.t.Helper()
	datagram, err := hex.DecodeString(digits)
	require.NoError(p.t, err)
	return p.exchange(datagram)
}

// exchange sends a confirmable message until it is answered, as a client does.
func (p *rawPeer) exchange(datagram []byte) []byte {
	p.t.Helper()
	for range 4 {
		p.send(datagram)
		if answer := p.receive(2 * time.Second); answer != nil {
			return answer
		}
	}
	require.Fail(p.t, "no answer")
	return nil
}

func (p *rawPeer) receive(limit time.Duration) []byte {
	p.t.Helper()
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(limit)))
	buf := make([]byte, 2048)
	n, _, err := p.conn.ReadFrom(buf)
	if err != nil {
		return nil
	}
	return buf[:n]
}

// clientOf returns the name of the client in the table of peers.
func (m capturedMessage) clientOf() string {
	if strings.HasPrefix(m.Name, "wakaama") {
		return "Wakaama f91cfe0"
	}
	return "Anjay 3.14.0"
}

func TestCapturedRegistrations(t *testing.T) {
	messages := capturedMessages(t, "/rd")
	require.GreaterOrEqual(t, len(messages), 8)
	for _, m := range messages {
		t.Run(m.Name, func(t *testing.T) {
			peers.Mark(t, m.clientOf(), "LwM2M client", "coap", "Register, recorded")
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				answer := w.rawPeer().ask(m.Message)
				require.Greater(t, len(answer), 4)
				require.Equal(t, byte(0x41), answer[1], "2.01")
				require.Equal(t, []lwm2m.EventKind{lwm2m.EventRegistered}, w.events.kinds())
				var regs []lwm2m.Registration
				for r := range w.server.Registrations() {
					regs = append(regs, r)
				}
				require.Len(t, regs, 1)
				r := regs[0]
				payload, err := hex.DecodeString(m.Hex)
				require.NoError(t, err)
				require.Equal(t, string(payload), r.Links)
				require.True(t, r.Objects().Has(lwm2m.NewPath(5, 0)))
				for _, q := range m.Query {
					name, value, _ := strings.Cut(q, "=")
					switch name {
					case "ep":
						require.Equal(t, value, r.Endpoint)
					case "lwm2m":
						require.Equal(t, value, r.Version.String())
					case "lt":
						require.Equal(t, value, strconv.Itoa(int(r.Lifetime.Seconds())))
					case "b":
						require.Equal(t, value, r.Binding)
					case "Q":
						require.True(t, r.Queue)
					}
				}
				if strings.Contains(m.Name, "UQ") {
					require.True(t, r.Queue)
				}
			})
		})
	}
}

func TestCapturedSends(t *testing.T) {
	messages := capturedMessages(t, "/dp")
	require.GreaterOrEqual(t, len(messages), 2)
	registration := capturedMessages(t, "/rd")[0].Message
	for _, m := range messages {
		t.Run(m.Name, func(t *testing.T) {
			peers.Mark(t, m.clientOf(), "LwM2M client", "coap", "Send, recorded")
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				peer := w.rawPeer()
				answer := peer.ask(m.Message)
				require.Equal(t, byte(0x84), answer[1], "4.04 before it is registered")
				require.Equal(t, byte(0x41), peer.ask(registration)[1])
				answer = peer.ask(m.Message)
				require.Equal(t, byte(0x84), answer[1], "a repetition of what was answered")
				again, err := hex.DecodeString(m.Message)
				require.NoError(t, err)
				again[3]++ // another message ID
				require.Equal(t, byte(0x44), peer.exchange(again)[1], "2.04")
				synctest.Wait()
				w.events.mu.Lock()
				defer w.events.mu.Unlock()
				sent := w.events.events[len(w.events.events)-1]
				require.Equal(t, lwm2m.EventSent, sent.Kind)
				require.GreaterOrEqual(t, len(sent.Entries), 2)
				state := sent.Entries[0]
				require.Equal(t, lwm2m.NewPath(5, 0, 3), state.Path)
				require.False(t, state.Time.IsZero())
				require.Equal(t, lwm2m.NewPath(5, 0, 5), sent.Entries[1].Path)
			})
		})
	}
}

// TestGarbage sends the server datagrams that are not CoAP, or are truncated.
func TestGarbage(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		peer := w.rawPeer()
		whole, err := hex.DecodeString(capturedMessages(t, "/rd")[0].Message)
		require.NoError(t, err)
		for n := range 40 {
			peer.send(whole[:n])
		}
		for i := range 200 {
			peer.send(randomBytes(i))
		}
		time.Sleep(10 * time.Minute)
		require.Empty(t, w.events.kinds())
		w.device(nil)
		require.Equal(t, "1.0.0", w.read("/3/0/3"))
	})
}

// TestCapturedTCPRegistration sends a frame of a real client after a CSM.
func TestCapturedTCPRegistration(t *testing.T) {
	peers.Mark(t, "Anjay 3.14.0", "LwM2M client", "coap+tcp", "Register, recorded")
	text, err := os.ReadFile("testdata/captured_messages.json")
	require.NoError(t, err)
	var file struct{ Vectors []capturedMessage }
	require.NoError(t, json.Unmarshal(text, &file))
	i := slices.IndexFunc(file.Vectors, func(m capturedMessage) bool { return strings.Contains(m.Name, "tcp") })
	require.GreaterOrEqual(t, i, 0)
	frame, err := hex.DecodeString(file.Vectors[i].Message)
	require.NoError(t, err)

	server := lwm2m.MustServer(lwm2m.ServerConfig{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = conn.Write(append([]byte{0x00, 0xe1}, frame...)) // an empty CSM first
	require.NoError(t, err)

	// Frames come back: the server's CSM, then 2.01 with the client's token.
	token := frame[3 : 3+int(frame[0]&0x0f)]
	var got []byte
	buf := make([]byte, 1024)
	for !bytes.Contains(got, append([]byte{0x41}, token...)) {
		n, err := conn.Read(buf)
		require.NoError(t, err, "%x", got)
		got = append(got, buf[:n]...)
	}
	r, ok := server.Registration("urn:dev:os:anjay-1")
	require.True(t, ok)
	require.Equal(t, lwm2m.TransportTCP, r.Transport)
	require.Equal(t, "T", r.Binding)
	cancel()
	require.NoError(t, <-served)
}
