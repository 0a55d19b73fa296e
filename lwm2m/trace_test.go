package lwm2m_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// taken returns what a trace has.
func taken(t *lwm2m.Trace) (list []lwm2m.TraceEntry) {
	if at, _ := t.Ended(); at.IsZero() {
		t.Stop()
	}
	for e := range t.Entries(context.Background(), 0) {
		list = append(list, e)
	}
	return list
}

// short is an entry in a line.
func short(e lwm2m.TraceEntry) string {
	parts := []string{"out"}
	if e.In {
		parts[0] = "in"
	}
	parts = append(parts, e.Kind, e.Type, e.Name)
	for _, o := range e.Options {
		if o.Name == "Uri-Path" {
			parts = append(parts, "/"+o.Value)
		}
	}
	return strings.Join(append(parts, e.Payload), " ")
}

func shorts(list []lwm2m.TraceEntry) (lines []string) {
	for _, e := range list {
		lines = append(lines, short(e))
	}
	return lines
}

// TestTrace: a trace has requests, answers and their values, retransmissions and duplicates, and a
// new address of the device; it begins with a Register of a device that is not known.
func TestTrace(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		trace, err := w.server.Trace(endpointName, lwm2m.TraceConfig{})
		require.NoError(t, err)
		_, err = w.server.Trace(endpointName, lwm2m.TraceConfig{})
		require.ErrorIs(t, err, lwm2m.ErrTraced)
		_, stop := w.deviceStop(nil)
		time.Sleep(time.Second)
		_, err = w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
		require.NoError(t, err)
		w.net.SetDefault(simnet.Conditions{Loss: 1})
		read := w.server.Go(lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpRead, Path: lwm2m.NewPath(3, 0, 0)}, func(lwm2m.Answer) {})
		time.Sleep(4 * time.Second)
		w.net.SetDefault(simnet.Conditions{Duplicate: 1})
		time.Sleep(10 * time.Second)
		read.Cancel(nil)
		w.net.SetDefault(simnet.Conditions{})
		list := taken(trace)
		require.Equal(t, []string{
			"in message CON POST /rd </>;rt=\"oma.lwm2m\";ct=\"60 110 112 11542\",</1>;ver=1.1,</1/0>,</3/0>", "out message ACK Created ",
		}, shorts(list)[:2])
		text := strings.Join(shorts(list), "\n")
		require.Contains(t, text, "out message CON GET /3 /0 /3 \nin message ACK Content 1.0.0")
		require.Contains(t, text, "out retransmission CON GET /3 /0 /0")
		require.Contains(t, text, "Content Otago")
		first := list[0]
		require.Equal(t, "coap", first.Transport.String())
		require.Equal(t, deviceIP, first.Remote.Addr())
		require.Equal(t, 1, first.N)
		require.Equal(t, lwm2m.ResponseCode(2), first.Code)
		require.Equal(t, "application/link-format", first.Format)
		require.Contains(t, first.Options, lwm2m.TraceOption{Name: "Uri-Query", Value: "ep=" + endpointName})
		require.Contains(t, list[1].Options, lwm2m.TraceOption{Name: "Location-Path", Value: "[secret]"})
		require.Equal(t, first.MessageID, list[1].MessageID)
		require.Equal(t, first.Token, list[1].Token)
		stop()

		// Another address of the device.
		trace, err = w.server.Trace(endpointName, lwm2m.TraceConfig{})
		require.NoError(t, err)
		w.device(nil)
		_, stop = w.deviceStop(func(c *lwm2m.ClientConfig) {
			c.Listen = func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.3:0") }
		})
		time.Sleep(time.Second)
		text = strings.Join(shorts(taken(trace)), "\n")
		require.Equal(t, 1, strings.Count(text, "in moved"), text)
		stop()
	})
}

// TestTraceEnds: a trace ends at each of its limits, and lets a follower have all of it.
func TestTraceEnds(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.device(nil)
		read := func() {
			_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3, 0, 3))
			require.NoError(t, err)
		}
		for _, wrong := range []lwm2m.TraceConfig{{Duration: -1}, {Duration: time.Hour}, {Messages: 5001}, {Bytes: 1 << 30}} {
			_, err := w.server.Trace("x", wrong)
			require.ErrorContains(t, err, "TraceConfig")
		}
		for reason, config := range map[string]lwm2m.TraceConfig{
			lwm2m.TraceEndTime: {}, lwm2m.TraceEndMessages: {Messages: 5}, lwm2m.TraceEndBytes: {Bytes: 2000}, lwm2m.TraceEndStopped: {},
		} {
			trace, err := w.server.Trace(endpointName, config)
			require.NoError(t, err)
			began, followed := time.Now(), make(chan int)
			go func() {
				n := 0
				for e := range trace.Entries(t.Context(), 0) {
					if n++; n != e.N {
						n = -1000
					}
					time.Sleep(time.Second) // it is slow
				}
				followed <- n
			}()
			for range 5 {
				read()
			}
			if reason == lwm2m.TraceEndStopped {
				trace.Stop()
			}
			<-trace.Done()
			at, why := trace.Ended()
			require.Equal(t, reason, why)
			if reason == lwm2m.TraceEndTime {
				require.Equal(t, time.Minute, at.Sub(began))
			}
			read()
			require.Equal(t, trace.Len(), <-followed)
			require.Positive(t, trace.Len())
			require.LessOrEqual(t, trace.Len(), 10)
			for range trace.Entries(t.Context(), trace.Len()) {
				t.Fatal("there is nothing more")
			}
		}
		for n := range 4 {
			_, err := w.server.Trace(string(rune('a'+n)), lwm2m.TraceConfig{})
			require.NoError(t, err)
		}
		_, err := w.server.Trace("e", lwm2m.TraceConfig{})
		require.ErrorIs(t, err, lwm2m.ErrTooManyTraces)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		time.Sleep(2 * time.Minute)
		trace, err := w.server.Trace("e", lwm2m.TraceConfig{})
		require.NoError(t, err)
		for range trace.Entries(ctx, 0) {
			t.Fatal("nothing comes")
		}
		w.stop()
		_, why := trace.Ended()
		require.Equal(t, lwm2m.TraceEndServer, why)
	})
}

// TestTraceKeepsSecrets: no part of a Package URI or of a key is in a trace, in whatever format and
// however many blocks it comes.
func TestTraceKeepsSecrets(t *testing.T) {
	const token = "Zm9vYmFyYmF6cXV4MTIzNA"
	uri := "coap://user:pw@10.0.0.1/fw/" + token + "?signature=" + token
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.server.HandleFunc("/fw/", func(context.Context, lwm2m.DownloadRequest) (*lwm2m.Download, error) {
			return nil, lwm2m.ErrNotFound
		})
		values := func(id uint16, list ...lwm2m.Entry) lwm2m.Object {
			return lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: id, Values: list, Writable: map[uint16]func(lwm2m.Value) error{1: nil, 5: nil}})
		}
		text := func(s string, path ...uint16) lwm2m.Entry {
			return lwm2m.Entry{Path: lwm2m.NewPath(path...), Value: lwm2m.String(s)}
		}
		client := w.device(func(c *lwm2m.ClientConfig) {
			c.Objects = append(c.Objects, values(5, text("", 5, 0, 1)), values(12, text(token, 12, 0, 5)), values(33629, text("", 33629, 0, 1)))
		})
		trace, err := w.server.Trace(endpointName, lwm2m.TraceConfig{Messages: 5000})
		require.NoError(t, err)
		for _, f := range []lwm2m.ContentFormat{lwm2m.FormatText, lwm2m.FormatTLV, lwm2m.FormatJSON, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR, lwm2m.FormatCBOR} {
			for _, path := range []lwm2m.Path{lwm2m.NewPath(5, 0, 1), lwm2m.NewPath(33629, 0, 1), lwm2m.NewPath(12, 0, 5)} {
				r := lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpWrite, Path: path, Format: &f, Entries: []lwm2m.Entry{{Path: path, Value: lwm2m.String(uri)}}}
				_, _ = w.server.Do(t.Context(), r) // the trace shows what came of it
				r = lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpRead, Path: path, Format: &f}
				_, _ = w.server.Do(t.Context(), r)
				r.Path = lwm2m.NewPath(path.Object(), 0)
				_, _ = w.server.Do(t.Context(), r)
			}
		}
		for _, size := range []int{16, 64} {
			body := strings.NewReader(uri)
			_, _ = w.server.Do(t.Context(), lwm2m.Request{
				Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 1), Body: body, Size: body.Size(), BlockSize: size,
			})
		}
		_ = client
		_, _ = lwm2m.Fetch(t.Context(), "coap://"+serverAddress+"/fw/"+token, &strings.Builder{}, lwm2m.FetchConfig{
			Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen("10.0.0.9:0") },
		})
		list := taken(trace)
		require.Greater(t, len(list), 50)
		hexToken := "5a6d3976"
		for _, e := range list {
			shown := short(e) + e.Note
			for _, o := range e.Options {
				shown += " " + o.Value
			}
			for i := 0; i+8 <= len(token); i++ {
				require.NotContains(t, shown, token[i:i+8])
			}
			require.NotContains(t, shown, hexToken)
			require.NotContains(t, shown, "user:pw")
		}
		all := strings.Join(shorts(list), "\n")
		require.Contains(t, all, "/5/0/1=coap://[secret]@10.0.0.1/fw/[secret]?[secret]")
	})
}

// TestTraceOfTransports: a trace has the messages of DTLS and TCP, their end, and a handshake that
// failed.
func TestTraceOfTransports(t *testing.T) {
	psk := []byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff")
	s := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: keys(t, "a 00112233445566778899aabbccddeeff\n")})
	t.Cleanup(s.stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.Serve(t.Context(), l) }() // ends with the test
	for name, config := range map[string]lwm2m.ClientConfig{
		"coaps": {Endpoint: "a", Server: s.uri, PSKIdentity: "a", PSK: psk}, "coap+tcp": {Endpoint: "b", Server: "coap+tcp://" + l.Addr().String()},
	} {
		config.Objects = []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: strings.Repeat("long ", 1000)})}
		trace, err := s.Trace(config.Endpoint, lwm2m.TraceConfig{})
		require.NoError(t, err)
		client, err := lwm2m.NewClient(config)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- client.Run(ctx) }()
		within, done := context.WithTimeout(t.Context(), 20*time.Second)
		defer done()
		require.NoError(t, client.WaitRegistered(within))
		_, err = s.Read(within, config.Endpoint, lwm2m.NewPath(3, 0, 0))
		require.NoError(t, err)
		cancel()
		require.NoError(t, <-ended)
		closed := false
		for e := range trace.Entries(within, 0) {
			require.Equal(t, name, e.Transport.String())
			if closed = e.Kind == "closed"; closed {
				break
			}
		}
		require.True(t, closed)
		list := taken(trace)
		text := strings.Join(shorts(list), "\n")
		require.Contains(t, text, "in message "+list[0].Type+" POST /rd")
		require.Contains(t, text, "Content")
		require.Contains(t, text, "in message "+list[0].Type+" DELETE /rd /[secret]")
	}
	trace, err := s.Trace("c", lwm2m.TraceConfig{})
	require.NoError(t, err)
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{Endpoint: "c", Server: s.uri, PSKIdentity: "c", PSK: psk})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	within, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	for e := range trace.Entries(within, 0) {
		require.Equal(t, "handshake", e.Kind)
		require.Contains(t, e.Note, "handshake failed")
		break
	}
	require.NoError(t, within.Err())
	cancel()
	<-ended
}

// registerOptions are the options and the payload of a Register of endpoint "raw".
const registerOptions = "\xb2rd\x11\x28\x36ep=raw\x08lt=86400\x09lwm2m=1.1\xff</3/0>"

// TestTraceOfMalformed: what a device sends that is no message is in its trace, with why it was
// dropped and without its content; what another address sends is not.
func TestTraceOfMalformed(t *testing.T) {
	const private = "Zm9vYmFyYmF6"
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		trace, err := w.server.Trace("raw", lwm2m.TraceConfig{})
		require.NoError(t, err)
		p := w.rawPeer()
		require.NotNil(t, p.exchange([]byte("\x40\x02\x12\x34"+registerOptions)))
		before := trace.Len()
		stranger, err := w.net.Listen("10.0.0.9:0")
		require.NoError(t, err)
		_, err = stranger.WriteTo([]byte("\x40\x02"), p.to)
		require.NoError(t, err)
		for _, datagram := range []string{
			"\x40\x02", "\x80\x02\x00\x01" + private, "\x40\x02\x00\x07\xff", "\x50\x02\x00\x08\xf0" + private, "\x40\x00\x00\x09" + private,
			"\x40\x02\x00\x0a\xff" + strings.Repeat(private, 300),
		} {
			p.send([]byte(datagram))
			time.Sleep(time.Second)
		}
		list := taken(trace)[before:]
		require.Equal(t, []string{
			"in dropped   ", "in dropped   ", "in dropped CON POST ", "in dropped NON POST ", "in dropped CON Empty ", "in dropped CON POST ",
		}, shorts(list))
		for i, why := range []string{"truncated message", "not version 1", "message format error", "message format error", "message format error", "2048 bytes or more"} {
			require.Equal(t, "The server dropped what the device has sent, as it is no message: ", list[i].Note[:66])
			require.Contains(t, list[i].Note, why)
			require.LessOrEqual(t, len(list[i].Note), 303)
			require.NotContains(t, list[i].Note, private)
			require.Equal(t, deviceIP, list[i].Remote.Addr())
		}
		require.Equal(t, []int{0, 0, 5}, []int{list[0].Size, list[1].Size, list[2].Size})
		require.EqualValues(t, 7, list[2].MessageID)
		require.NoError(t, stranger.Close())
	})
}

// TestTraceOfMalformedFrame: over TCP a malformed frame ends the connection, and a trace says why.
func TestTraceOfMalformedFrame(t *testing.T) {
	s := secure(t, "127.0.0.1:0", lwm2m.ServerConfig{Credentials: keys(t, "a 00112233445566778899aabbccddeeff\n")})
	t.Cleanup(s.stop)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = s.Serve(t.Context(), l) }() // ends with the test
	trace, err := s.Trace("raw", lwm2m.TraceConfig{})
	require.NoError(t, err)
	conn, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("\x00\xe1" + "\xd0" + string(rune(len(registerOptions)-13)) + "\x02" + registerOptions + "\x0f\x01"))
	require.NoError(t, err)
	within, done := context.WithTimeout(t.Context(), 20*time.Second)
	defer done()
	var list []string
	for e := range trace.Entries(within, 0) {
		if e.Kind == "dropped" {
			require.Contains(t, e.Note, "as it is no message: ")
		}
		list = append(list, e.Kind+" "+e.Name)
		if e.Kind == "closed" {
			break
		}
	}
	require.Contains(t, list, "message POST")
	require.Contains(t, list, "dropped ")
	require.Contains(t, list, "closed ")
}
