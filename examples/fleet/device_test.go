package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/senml"
)

// peer plays the server of one device, message by message.
type peer struct {
	t      *testing.T
	conn   *net.UDPConn
	device net.Addr
	id     uint16
}

// needsLinux skips a test of devices with addresses of their own elsewhere.
func needsLinux(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("simulated devices need Linux")
	}
}

// newPeer starts a device and receives its Register.
func newPeer(t *testing.T, f fleet) *peer {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	f.Devices, f.Size, f.Lifetime = 1, 2048, time.Hour
	needsLinux(t)
	w, err := newWorld(devicesRole{Fleet: f, Server: conn.LocalAddr().(*net.UDPAddr).AddrPort()})
	require.NoError(t, err)
	t.Cleanup(w.close)
	w.start(t.Context())
	p := &peer{t: t, conn: conn, id: 100}
	version := "1.0.0"
	if f.Silent > 0 {
		version = ""
	}
	p.register(version)
	select {
	case <-w.all:
	case <-time.After(20 * time.Second):
		t.Fatal("the device does not know that it is registered")
	}
	return p
}

// receive returns the next message of the device.
func (p *peer) receive() message {
	p.t.Helper()
	buf := make([]byte, 2048)
	require.NoError(p.t, p.conn.SetReadDeadline(time.Now().Add(20*time.Second)))
	n, from, err := p.conn.ReadFrom(buf)
	require.NoError(p.t, err)
	p.device = from
	m, err := parseMessage(buf[:n])
	require.NoError(p.t, err)
	return m
}

func (p *peer) send(w *writer) {
	p.t.Helper()
	_, err := p.conn.WriteTo(w.b, p.device)
	require.NoError(p.t, err)
}

// register answers a Register, and, unless version is "", checks that the device then runs it.
func (p *peer) register(version string) {
	p.t.Helper()
	m := p.receive()
	require.Equal(p.t, "/rd", m.path)
	require.Equal(p.t, byte(confirmable), m.kind)
	require.NotEmpty(p.t, lwm2m.Registration{Links: string(m.payload)}.Objects().Objects)
	w := newMessage(acknowledgement, codeCreated, m.id, m.token)
	w.segments(optionLocationPath, "/rd/here")
	p.send(w)
	if version != "" {
		require.Equal(p.t, version, string(p.do(codeGET, "/3/0/3", nil).payload))
	}
}

// do makes a request and returns the answer.
func (p *peer) do(code byte, path string, options func(*writer)) message {
	p.t.Helper()
	p.id++
	w := newMessage(confirmable, code, p.id, []byte{7})
	w.segments(optionURIPath, path)
	if options != nil {
		options(w)
	}
	p.send(w)
	m := p.receive()
	require.Equal(p.t, p.id, m.id)
	require.Equal(p.t, byte(acknowledgement), m.kind)
	require.Equal(p.t, []byte{7}, m.token)
	return m
}

func text(s string) func(*writer) {
	return func(w *writer) {
		w.number(optionContentFormat, int(lwm2m.FormatText))
		w.payload([]byte(s))
	}
}

func TestDeviceReads(t *testing.T) {
	p := newPeer(t, fleet{})
	m := p.do(codeGET, "/5/0", nil)
	require.Equal(t, int(lwm2m.FormatSenMLCBOR), m.format)
	entries, err := lwm2m.DecodePayload(lwm2m.FormatSenMLCBOR, lwm2m.NewPath(5, 0), m.payload, nil)
	require.NoError(t, err)
	require.Equal(t, []lwm2m.Entry{
		{Path: pathState, Value: lwm2m.Integer(0)}, {Path: pathResult, Value: lwm2m.Integer(0)},
		{Path: lwm2m.NewPath(5, 0, 8, 0), Value: lwm2m.Integer(2)}, {Path: lwm2m.NewPath(5, 0, 9), Value: lwm2m.Integer(2)},
	}, entries)
	m = p.do(codeGET, "/5/0", func(w *writer) { w.number(optionAccept, int(lwm2m.FormatTLV)) })
	require.Equal(t, int(lwm2m.FormatTLV), m.format)
	require.Equal(t, int(lwm2m.FormatSenMLCBOR), p.do(codeGET, "/5/0/8", nil).format, "text has no room for instances")

	for want, m := range map[byte]message{
		codeNotFound:      p.do(codeGET, "/4/0/1", nil),
		codeNotAcceptable: p.do(codeGET, "/5/0", func(w *writer) { w.number(optionAccept, 0) }),
		codeBadOption:     p.do(codeGET, "/5/0", func(w *writer) { w.bytes(35, "coap://proxy") }),
		codeNotAllowed:    p.do(5, "/", func(w *writer) { w.number(optionContentFormat, 112) }), // Read-Composite
		codeBadRequest:    p.do(codePUT, "/5/0/1", func(w *writer) { w.number(optionContentFormat, 112); w.payload([]byte{1}) }),
		codeIncomplete:    p.do(codePUT, "/5/0/0", func(w *writer) { w.number(optionBlock1, 1<<4|6); w.payload(make([]byte, 1024)) }),
	} {
		require.Equal(t, want, m.code)
	}
	p.send(newMessage(confirmable, codeEmpty, 1, nil)) // a ping
	m = p.receive()
	require.Equal(t, byte(reset), m.kind)
	require.Equal(t, uint16(1), m.id)
}

// block makes a message that writes a block of the package.
func block(id uint16, number int, more bool, content []byte) *writer {
	w := newMessage(confirmable, codePUT, id, []byte{7})
	w.segments(optionURIPath, "/5/0/0")
	w.number(optionContentFormat, int(lwm2m.FormatOpaque))
	value := number<<4 | 6
	if more {
		value |= 8
	}
	w.number(optionBlock1, value)
	w.payload(content)
	return w
}

// TestDeviceAnswersAgain sends each block of a package three times: the device takes it once, and
// repeats its answer.
func TestDeviceAnswersAgain(t *testing.T) {
	p := newPeer(t, fleet{})
	content := newPackage("1.1.0", 2048)
	for _, b := range []struct {
		w    *writer
		want byte
	}{{block(1, 0, true, content[:1024]), codeContinue}, {block(2, 1, false, content[1024:]), codeChanged}} {
		for range 3 {
			p.send(b.w)
			require.Equal(t, b.want, p.receive().code)
		}
	}
	require.Equal(t, "2", string(p.do(codeGET, "/5/0/3", nil).payload))
	require.Equal(t, byte(codeBadRequest), p.do(codePUT, "/5/0/1", text("http://127.0.0.1/")).code)
	require.Equal(t, byte(codeChanged), p.do(codePUT, "/5/0/1", text("")).code)
	require.Equal(t, "0", string(p.do(codeGET, "/5/0/3", nil).payload))
}

// TestDeviceReadsComposite reads several paths at once from a device that can.
func TestDeviceReadsComposite(t *testing.T) {
	p := newPeer(t, fleet{Composite: true})
	codec := senml.Codec{LwM2M: true, Pack: senml.Fetch}
	names, err := codec.AppendCBOR(nil, []senml.Record{{Name: "/5/0/3"}, {Name: "/3/0/3"}})
	require.NoError(t, err)
	m := p.do(codeFETCH, "/", func(w *writer) {
		w.number(optionContentFormat, int(lwm2m.FormatSenMLCBOR))
		w.number(optionAccept, int(lwm2m.FormatSenMLCBOR))
		w.payload(names)
	})
	require.Equal(t, byte(codeContent), m.code)
	entries, err := lwm2m.DecodePayload(lwm2m.FormatSenMLCBOR, lwm2m.Path{}, m.payload, nil)
	require.NoError(t, err)
	require.Equal(t, []lwm2m.Entry{
		{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String("1.0.0")}, {Path: pathState, Value: lwm2m.Integer(0)},
	}, entries)
}

// TestSilentDevice checks that a silent device registers and then sends nothing.
func TestSilentDevice(t *testing.T) {
	p := newPeer(t, fleet{Silent: 1})
	p.send(newMessage(confirmable, codeEmpty, 1, nil))
	require.NoError(t, p.conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err := p.conn.Read(make([]byte, 100))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}

// TestDevicePulls takes a device from Idle to its new version, and checks its notifications.
func TestDevicePulls(t *testing.T) {
	packages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			_, _ = w.Write(newPackage("1.1.0", 2048))
		case "/bad":
			_, _ = w.Write(make([]byte, 2048))
		default:
			http.NotFound(w, r)
		}
	}))
	defer packages.Close()
	p := newPeer(t, fleet{Restart: 10 * time.Millisecond})
	w := newMessage(confirmable, codeGET, 50, []byte{8})
	w.number(optionObserve, 0)
	w.segments(optionURIPath, "/5/0/3")
	p.send(w)
	m := p.receive()
	require.Equal(t, "0", string(m.payload))
	require.NotEqual(t, absent, m.observe)
	notified := func(want string) {
		t.Helper()
		m := p.receive()
		require.Equal(t, byte(nonConfirmable), m.kind)
		require.Equal(t, want, string(m.payload))
		require.NotEqual(t, absent, m.observe)
		require.Equal(t, []byte{8}, m.token)
	}
	for path, result := range map[string]string{"/nowhere": "7", "/bad": "5"} {
		require.Equal(t, byte(codeChanged), p.do(codePUT, "/5/0/1", text(packages.URL+path)).code)
		notified("1")
		notified("0")
		require.Equal(t, result, string(p.do(codeGET, "/5/0/5", nil).payload))
	}
	require.Equal(t, byte(codeNotAllowed), p.do(codePOST, "/5/0/2", nil).code)
	require.Equal(t, byte(codeChanged), p.do(codePUT, "/5/0/1", text(packages.URL+"/good")).code)
	notified("1")
	notified("2")
	old := p.device.String()
	require.Equal(t, byte(codeChanged), p.do(codePOST, "/5/0/2", nil).code)
	notified("3")
	p.register("1.1.0")
	require.Equal(t, old, p.device.String(), "the first device comes back from the same address first")
	require.Equal(t, "1", string(p.do(codeGET, "/5/0/5", nil).payload))
	require.Equal(t, "0", string(p.do(codeGET, "/5/0/3", nil).payload))

	require.Equal(t, byte(codeChanged), p.do(codePUT, "/5/0/1", text(packages.URL+"/good")).code)
	require.Eventually(t, func() bool { return string(p.do(codeGET, "/5/0/3", nil).payload) == "2" }, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, byte(codeChanged), p.do(codePOST, "/5/0/2", nil).code)
	p.register("1.1.0")
	require.NotEqual(t, old, p.device.String(), "and then from another one")
}
