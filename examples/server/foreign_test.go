package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
)

// foreignDevice is an LwM2M 1.1 client that shares no code with this module. It encodes and decodes
// datagrams by hand.
type foreignDevice struct {
	t        *testing.T
	endpoint string
	server   string // host:port
	habits   habits

	mu        sync.Mutex
	conn      net.Conn
	life      int // number of starts
	values    map[string]string
	observed  map[string][]byte // tokens by path
	notes     byte              // notifications sent
	mid       uint16
	seen      map[uint16][]byte // answers by message id
	asked     []string
	got       []byte // the firmware
	requested string // request line of the download
	wg        sync.WaitGroup
}

// habits are the differences between clients.
type habits struct {
	host        string // "": the Package URI is absolute; else the built-in host:port of the client
	answersLate bool   // the write is answered after the download, when the server has sent it twice
	noReboot    bool   // Execute succeeds at once: no restart, no new registration
	senml       bool   // instances are read as SenML CBOR; else there are only single resources
}

// The CoAP numbers in use.
const (
	codeGet, codePost, codePut                    = 0x01, 0x02, 0x03
	codeCreated, codeChanged, codeContent         = 0x41, 0x44, 0x45
	codeNotFound, codeNotAllowed, codeServerError = 0x84, 0x85, 0xa0
	optObserve, optURIPath, optContentFormat      = 6, 11, 12
	optURIQuery, optAccept                        = 15, 17
	typeCON, typeNON, typeACK                     = 0, 1, 2
)

type option struct {
	number int
	value  string
}

// datagram encodes a message whose options are shorter than 269 bytes and in ascending order.
func datagram(kind, code byte, mid uint16, token []byte, payload string, options ...option) []byte {
	b := []byte{1<<6 | kind<<4 | byte(len(token)), code, byte(mid >> 8), byte(mid)}
	b = append(b, token...)
	last := 0
	for _, o := range options {
		nibble := func(n int) (byte, []byte) {
			if n < 13 {
				return byte(n), nil
			}
			return 13, []byte{byte(n - 13)}
		}
		delta, more := nibble(o.number - last)
		length, evenMore := nibble(len(o.value))
		b = append(b, delta<<4|length)
		b = append(append(append(b, more...), evenMore...), o.value...)
		last = o.number
	}
	if payload != "" {
		b = append(append(b, 0xff), payload...)
	}
	return b
}

type message struct {
	kind, code byte
	mid        uint16
	token      []byte
	path       string
	observe    string // "" absent, else "0" or "1"
	accept     int    // -1 absent
	payload    string
}

func parse(b []byte) (m message) {
	m = message{kind: b[0] >> 4 & 3, code: b[1], mid: binary.BigEndian.Uint16(b[2:]), accept: -1}
	n := int(b[0] & 15)
	m.token, b = bytes.Clone(b[4:4+n]), b[4+n:]
	for number := 0; len(b) > 0 && b[0] != 0xff; {
		delta, length := int(b[0]>>4), int(b[0]&15)
		b = b[1:]
		for _, n := range []*int{&delta, &length} {
			switch *n {
			case 13:
				*n, b = 13+int(b[0]), b[1:]
			case 14:
				*n, b = 269+int(binary.BigEndian.Uint16(b)), b[2:]
			}
		}
		number += delta
		value := b[:length]
		b = b[length:]
		number64 := 0
		for _, c := range value {
			number64 = number64<<8 | int(c)
		}
		switch number {
		case optURIPath:
			m.path += "/" + string(value)
		case optObserve:
			m.observe = strconv.Itoa(number64)
		case optAccept:
			m.accept = number64
		}
	}
	if len(b) > 0 {
		m.payload = string(b[1:])
	}
	return m
}

// startForeign starts a device of version 1.0.
func startForeign(t *testing.T, s *server, endpoint string, h habits) *foreignDevice {
	t.Helper()
	d := &foreignDevice{t: t, endpoint: endpoint, server: strings.TrimPrefix(s.coap(), "coap://"), habits: h}
	d.values = map[string]string{"/3/0/3": "1.0", "/5/0/3": "0", "/5/0/5": "0", "/5/0/9": "0"}
	if h.host == "" {
		d.values["/5/0/8/0"] = "2" // HTTP
	}
	d.boot()
	t.Cleanup(func() {
		d.mu.Lock()
		d.conn.Close()
		d.mu.Unlock()
		d.wg.Wait()
	})
	return d
}

// boot starts the device: with a new socket, no observations, and a registration.
func (d *foreignDevice) boot() {
	conn, err := net.Dial("udp", d.server)
	require.NoError(d.t, err)
	d.mu.Lock()
	if d.conn != nil {
		d.conn.Close()
	}
	d.conn, d.observed, d.seen = conn, map[string][]byte{}, map[uint16][]byte{}
	d.life++
	d.mid += 100
	links := "</1/0>,</3/0>,</5/0>"
	register := datagram(typeCON, codePost, d.mid, []byte{byte(d.life), 7}, links, option{optURIPath, "rd"},
		option{optContentFormat, "\x28"}, option{optURIQuery, "lwm2m=1.1"}, option{optURIQuery, "ep=" + d.endpoint},
		option{optURIQuery, "lt=300"})
	d.mu.Unlock()
	_, err = conn.Write(register)
	require.NoError(d.t, err)
	d.wg.Go(func() {
		for b := make([]byte, 2000); ; {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			d.receive(conn, parse(b[:n]))
		}
	})
}

// receive answers a request, and repeats the answer to a repeated request.
func (d *foreignDevice) receive(conn net.Conn, m message) {
	if m.kind != typeCON || m.code == 0 || m.code >= 0x40 {
		return // answers to its own requests
	}
	d.mu.Lock()
	answer, copied := d.seen[m.mid]
	d.mu.Unlock()
	var after func()
	if !copied {
		var code byte
		var payload string
		var options []option
		code, payload, options, after = d.handle(m)
		answer = datagram(typeACK, code, m.mid, m.token, payload, options...)
		d.mu.Lock()
		d.seen[m.mid] = answer
		d.mu.Unlock()
	}
	_, _ = conn.Write(answer) // fails when the server has ended with the test
	if after != nil {
		after()
	}
}

func (d *foreignDevice) handle(m message) (code byte, payload string, options []option, after func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, fmt.Sprintf("%d %s %s", m.code, m.path, m.payload))
	switch {
	case m.code == codeGet && m.path == "/5/0" && d.habits.senml:
		return codeContent, d.instance(), []option{{optContentFormat, "\x70"}}, nil
	case m.code == codeGet:
		value, ok := d.values[m.path]
		if !ok {
			return codeNotFound, "", nil, nil
		}
		options = []option{{optContentFormat, ""}}
		if m.observe == "0" {
			d.observed[m.path] = m.token
			d.notes++
			options = []option{{optObserve, string([]byte{d.notes})}, {optContentFormat, ""}}
		}
		return codeContent, value, options, nil
	case m.code == codePut && m.path == "/5/0/1":
		if m.payload == "" {
			return codeChanged, "", nil, nil // a reset in Idle
		}
		if d.habits.answersLate {
			d.patience()
			d.download(m.payload)
			return codeChanged, "", nil, func() { d.show("/5/0/3", "2") }
		}
		return codeChanged, "", nil, func() {
			d.show("/5/0/3", "1")
			d.mu.Lock()
			d.download(m.payload)
			d.mu.Unlock()
			d.show("/5/0/3", "2")
		}
	case m.code == codePost && m.path == "/5/0/2" && d.values["/5/0/3"] == "2":
		if d.habits.noReboot {
			return codeChanged, "", nil, func() {
				d.show("/5/0/3", "3")
				d.show("/5/0/5", "1")
				d.show("/5/0/3", "0")
			}
		}
		return codeChanged, "", nil, func() {
			d.mu.Lock()
			d.values["/5/0/3"], d.values["/5/0/5"] = "0", "1"
			d.mu.Unlock()
			d.boot()
		}
	default:
		return codeNotAllowed, "", nil, nil
	}
}

// patience returns when the server has sent its request a second time.
func (d *foreignDevice) patience() {
	conn := d.conn
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := conn.Read(make([]byte, 2000))
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil {
		d.t.Errorf("the server does not repeat its request: %v", err)
	}
}

// download is an HTTP/1.0 client that knows no headers and no redirects: everything after the first
// empty line is firmware.
func (d *foreignDevice) download(uri string) {
	host, path := d.habits.host, uri
	if host == "" {
		rest, ok := strings.CutPrefix(uri, "http://")
		if !ok {
			d.t.Errorf("not HTTP, which is all that 5/0/8 says: %s", uri)
			return
		}
		host, path, _ = strings.Cut(rest, "/")
	}
	d.requested = "GET /" + path + " HTTP/1.0"
	conn, err := net.Dial("tcp", host)
	if err != nil {
		d.t.Errorf("download of %s: %v", uri, err)
		return
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s\r\n\r\n", d.requested)
	all, err := io.ReadAll(conn)
	if err != nil {
		d.t.Errorf("download of %s: %v", uri, err)
	}
	_, d.got, _ = bytes.Cut(all, []byte("\r\n\r\n"))
}

// show changes a resource, and notifies its observers.
func (d *foreignDevice) show(path, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.values[path] = value
	token, ok := d.observed[path]
	if !ok {
		return
	}
	d.notes++
	d.mid++
	note := datagram(typeNON, codeContent, d.mid, token, value, option{optObserve, string([]byte{d.notes})}, option{optContentFormat, ""})
	_, _ = d.conn.Write(note)
}

// instance returns /5/0 in SenML CBOR: [{-2: "/5/0/", 0: "3", 2: state}, {0: "5", 2: result}, {0:
// "9", 2: 0}, {0: "8/0", 2: 2}].
func (d *foreignDevice) instance() string {
	digit := func(path string) string { return string([]byte{d.values[path][0] - '0'}) }
	return "\x84\xa3\x21\x65/5/0/\x00\x613\x02" + digit("/5/0/3") + "\xa2\x00\x615\x02" + digit("/5/0/5") + "\xa2\x00\x619\x02\x00\xa2\x00\x638/0\x02\x02"
}

// TestFlownexusSample updates the sample firmware of flownexus, before and after a restart of the
// server. It shares its LwM2M client with this module, and nothing of its download.
func TestFlownexusSample(t *testing.T) {
	data := t.TempDir()
	s := startServer(t, "-data", data, "-public-prefix", "/binaries/")
	host := strings.TrimPrefix(s.packages(), "http://")
	d := firmwaretest.NewDevice(lwm2m.ClientConfig{Endpoint: "qemu_x86", Server: s.coap()}, firmwaretest.FlownexusSample(host))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	defer running.Wait()
	defer cancel()
	updated := func(version string) {
		image := s.upload(version, bytes.Repeat([]byte("any bytes\n"), 20_000))
		u := s.start(`{"endpoint":"qemu_x86","image":%q,"profile":"fixed-host","verify":"result"}`, image)
		u = s.await(u.ID, ended)
		require.Equal(t, []string{"succeeded", "success", "idle"}, []string{u.Outcome, u.Result.Name, u.State}, "%+v", u)
		require.EqualValues(t, 200_000, u.Progress.Bytes)
	}
	updated("2.0.0")
	coap, api := strings.TrimPrefix(s.coap(), "coap://"), strings.TrimSuffix(strings.TrimPrefix(s.api(), "http://"), "/api/v1")
	require.Zero(t, s.stop())
	s = startServer(t, "-data", data, "-public-prefix", "/binaries/", "-coap", coap, "-fw-http", host, "-http", api)
	updated("2.0.1")
	require.Equal(t, []string{"uri /binaries/2.0.0.bin", "execute", "uri /binaries/2.0.1.bin", "execute"}, d.Log())
}

// TestForeignDevice updates devices that share no code with this module, with their habits.
func TestForeignDevice(t *testing.T) {
	for _, test := range []struct {
		name    string
		habits  func(*server) habits
		request string
		lives   int
		asks    string // the beginning of its HTTP request
	}{
		{
			"restarts and reports", func(*server) habits { return habits{} },
			`{"endpoint":%q,"image":%q,"protocol":"http","verify":"result"}`, 2, "GET /fw/",
		},
		{
			"the same without wishes", func(*server) habits { return habits{senml: true} },
			`{"endpoint":%q,"image":%q,"verify":"result"}`, 2, "GET /fw/",
		},
		{
			"fixed host, answers late, never restarts",
			func(s *server) habits {
				return habits{host: strings.TrimPrefix(s.packages(), "http://"), answersLate: true, noReboot: true, senml: true}
			},
			`{"endpoint":%q,"image":%q,"profile":"fixed-host","verify":"result"}`, 1, "GET //media/firmware/v0.1.0.bin HTTP/1.0",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startServer(t, "-data", t.TempDir())
			d := startForeign(t, s, "foreign", test.habits(s))
			content := bytes.Repeat([]byte("any bytes\n"), 20_000)
			u := s.start(test.request, "foreign", s.upload("v0.1.0", content))
			u = s.await(u.ID, ended)
			d.mu.Lock()
			defer d.mu.Unlock()
			require.Equal(t, "succeeded", u.Outcome, "%+v\n%s", u, strings.Join(d.asked, "\n"))
			require.Equal(t, []string{"success", "idle", "1.0"}, []string{u.Result.Name, u.State, u.OldVersion})
			require.True(t, bytes.Equal(content, d.got), "%d bytes", len(d.got))
			require.True(t, strings.HasPrefix(d.requested, test.asks), d.requested)
			require.Equal(t, test.lives, d.life)
			writes := 0
			for _, line := range d.asked {
				if strings.HasPrefix(line, "3 /5/0/1 /") || strings.HasPrefix(line, "3 /5/0/1 http") {
					writes++
				}
			}
			require.Equal(t, 1, writes, "%q", d.asked)
		})
	}
}
