package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// TestResourcesOverSockets: an HTTP client reads, writes and observes a device over UDP, all on
// loopback.
func TestResourcesOverSockets(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db := memory.New()
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	require.NoError(t, err)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- srv.ServePacket(ctx, socket) }()
	images, err := firmware.OpenRepository(t.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(t, err)
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(t, err)
	web := httptest.NewServer(handler(t, manager, httpapi.AllowAll, httpapi.Config{}))
	defer web.Close()
	s := &service{t: t, Server: web}

	level := lwm2m.NewPath(3303, 0, 5700)
	sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID: 3303, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Float(21.5)}}, Writable: map[uint16]func(lwm2m.Value) error{5700: nil},
	})
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: oddName, Server: "coap://" + socket.LocalAddr().String(), Objects: []lwm2m.Object{sensor},
	})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- client.Run(ctx) }()
	require.NoError(t, client.WaitRegistered(ctx))

	resource := "/api/v1/devices/" + url.PathEscape(oddName) + "/resources/3303/0/5700"
	stream, err := web.Client().Get(web.URL + resource + "?observe=true&format=senml-cbor")
	require.NoError(t, err)
	defer stream.Body.Close()
	require.Equal(t, http.StatusOK, stream.StatusCode)
	events := json.NewDecoder(dataOf(stream.Body))
	next := func() string {
		t.Helper()
		var event struct{ Values []value }
		require.NoError(t, events.Decode(&event))
		return string(event.Values[0].Value)
	}
	require.Equal(t, "21.5", next())
	a := s.do(http.MethodPut, resource+"?format=cbor", strings.NewReader(`{"type":"float","value":-0.25}`), "Content-Type", "application/json")
	require.Equal(t, http.StatusNoContent, a.StatusCode, "%s", a.body)
	require.Equal(t, "-0.25", next())
	a = s.get(resource + "?format=tlv")
	require.Equal(t, http.StatusOK, a.StatusCode, "%s", a.body)
	requireProblem(t, s.get(resource+"/1"), http.StatusNotFound, "device-refused")
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, <-served)
}

// dataOf returns the data of server-sent events.
func dataOf(body io.Reader) io.Reader {
	reader, writer := io.Pipe()
	go func() {
		defer writer.Close()
		buffer := make([]byte, 64<<10)
		var text string
		for {
			n, err := body.Read(buffer)
			text += string(buffer[:n])
			for {
				line, rest, found := strings.Cut(text, "\n")
				if !found {
					break
				}
				text = rest
				if data, ok := strings.CutPrefix(line, "data: "); ok {
					_, _ = io.WriteString(writer, data)
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return reader
}

// TestDeafObserverIsDropped: the server ends the connection of a client that does not read an
// observation for a heartbeat, and the observation with it.
func TestDeafObserverIsDropped(t *testing.T) {
	inLab(t, nil, httpapi.Config{MaxStreams: 1}, func(t *testing.T, l *lab) {
		level := lwm2m.NewPath(objectAll, 0, 1)
		object := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: objectAll, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Integer(0)}}})
		client := l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		listener := newPipes()
		server := &http.Server{Handler: l}
		stopped := make(chan error, 1)
		go func() { stopped <- server.Serve(listener) }()
		conn := listener.dial()
		_, err := io.WriteString(conn, "GET /api/v1/"+ours+"resources/30000/0/1?observe=true HTTP/1.1\r\nHost: x\r\n\r\n")
		require.NoError(t, err)
		_, err = io.ReadFull(conn, make([]byte, 20)) // and no more
		require.NoError(t, err)
		requireProblem(t, l.do("GET", "resources/30000/0/1?observe=true", ""), 503, "unavailable")
		time.Sleep(20 * time.Second)
		object.Set(level, lwm2m.Integer(1))
		client.Notify(level)
		time.Sleep(20 * time.Second)
		again := l.stream(ours + "resources/30000/0/1?observe=true")
		require.Equal(t, 200, again.code, "its place is free")
		require.Equal(t, `"1"`, again.value())
		again.end()
		conn.Close()
		require.NoError(t, server.Close())
		require.ErrorIs(t, <-stopped, http.ErrServerClosed)
	})
}
