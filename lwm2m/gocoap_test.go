package lwm2m_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/message/pool"
	"github.com/plgd-dev/go-coap/v3/mux"
	coapnet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/server"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/peers"
	"github.com/otago-iot/otago/lwm2m"
)

// quiet keeps go-coap from printing.
func quiet(error) {}

// clockwork is go-coap's periodic runner, which would otherwise outlive the test.
func clockwork(t *testing.T) options.PeriodicRunnerOpt {
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	return options.WithPeriodicRunner(periodic.New(done, 10*time.Millisecond))
}

// TestGoCoapDevice uses the whole stack of go-coap as the device, for Register, Read, Write and
// Execute.
func TestGoCoapDevice(t *testing.T) {
	peers.Mark(t, "go-coap", "LwM2M client", "coap", "Register, Read, Write, Execute")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	srv := lwm2m.MustServer(lwm2m.ServerConfig{})
	registered := make(chan lwm2m.Registration, 1)
	srv.Watch(func(e lwm2m.RegistrationEvent) {
		if e.Kind == lwm2m.EventRegistered {
			registered <- e.Registration
		}
	})
	conn, _ := listen()
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- srv.ServePacket(serving, conn) }()

	written, executed := make(chan string, 1), make(chan string, 1)
	router := mux.NewRouter()
	require.NoError(t, router.Handle("/5/0/3", mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
		_ = w.SetResponse(codes.Content, message.TextPlain, bytes.NewReader([]byte("2")))
	})))
	require.NoError(t, router.Handle("/5/0/1", mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
		body, _ := io.ReadAll(r.Body())
		written <- string(body)
		_ = w.SetResponse(codes.Changed, message.TextPlain, nil)
	})))
	require.NoError(t, router.Handle("/5/0/2", mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
		executed <- r.Code().String()
		_ = w.SetResponse(codes.Changed, message.TextPlain, nil)
	})))
	device, err := udp.Dial(conn.LocalAddr().String(), options.WithMux(router), options.WithErrors(quiet), clockwork(t))
	require.NoError(t, err)
	links := `</>;rt="oma.lwm2m",</5>;ver=1.1,</5/0>`
	post, err := device.NewPostRequest(ctx, "/rd", message.AppLinkFormat, bytes.NewReader([]byte(links)))
	require.NoError(t, err)
	for _, q := range []string{"lwm2m=1.1", "ep=gocoap", "lt=60"} {
		post.AddQuery(q)
	}
	resp, err := device.Do(post)
	require.NoError(t, err)
	require.Equal(t, codes.Created, resp.Code())
	require.Equal(t, links, (<-registered).Links)

	entries, err := srv.Read(ctx, "gocoap", lwm2m.NewPath(5, 0, 3))
	require.NoError(t, err)
	require.Equal(t, lwm2m.Integer(2), entries[0].Value)
	require.NoError(t, srv.WriteValue(ctx, "gocoap", lwm2m.NewPath(5, 0, 1), lwm2m.String("coap://host/x")))
	require.Equal(t, "coap://host/x", <-written)
	require.NoError(t, srv.Execute(ctx, "gocoap", lwm2m.NewPath(5, 0, 2), ""))
	require.Equal(t, "POST", <-executed)
	_, err = srv.Read(ctx, "gocoap", lwm2m.NewPath(5, 0, 5))
	require.ErrorIs(t, err, lwm2m.ErrNotFound)

	require.NoError(t, device.Close())
	<-device.Done()
	stop()
	require.NoError(t, <-served)
}

// TestGoCoapServer uses go-coap as the server of our client, for Register, Read, Write and Observe.
func TestGoCoapServer(t *testing.T) {
	peers.Mark(t, "go-coap", "LwM2M server", "coap", "Register, Read, Write, Observe")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	conns := make(chan mux.Conn, 1)
	links := make(chan string, 1)
	router := mux.NewRouter()
	require.NoError(t, router.Handle("/rd", mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
		body, _ := io.ReadAll(r.Body())
		_ = w.SetResponse(codes.Created, message.TextPlain, nil,
			message.Option{ID: message.LocationPath, Value: []byte("rd")}, message.Option{ID: message.LocationPath, Value: []byte("1")})
		links <- string(body)
		conns <- w.Conn()
	})))
	require.NoError(t, router.Handle("/rd/1", mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
		_ = w.SetResponse(codes.Deleted, message.TextPlain, nil)
	})))
	l, err := coapnet.NewListenUDP("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	s := server.New(options.WithMux(router), options.WithErrors(quiet), clockwork(t))
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()

	object := &sensor{unit: "Cel"}
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "a", Server: "coap://" + l.LocalAddr().(*net.UDPAddr).String(), Models: sensorModels(t), Objects: []lwm2m.Object{object},
	})
	require.NoError(t, err)
	running, end := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- client.Run(running) }()
	require.Equal(t, `</>;rt="oma.lwm2m";ct="60 110 112 11542",</1>;ver=1.1,</1/0>,</3/0>,</3303/0>`, <-links)
	conn := <-conns
	require.NoError(t, client.WaitRegistered(ctx))

	read := func(path string) string {
		resp, err := conn.Get(ctx, path)
		require.NoError(t, err)
		require.Equal(t, codes.Content, resp.Code())
		body, err := resp.ReadBody()
		require.NoError(t, err)
		return string(body)
	}
	require.Equal(t, "Cel", read("/3303/0/5701"))
	resp, err := conn.Put(ctx, "/3303/0/5701", message.TextPlain, bytes.NewReader([]byte("K")))
	require.NoError(t, err)
	require.Equal(t, codes.Changed, resp.Code())
	require.Equal(t, "K", read("/3303/0/5701"))

	values := make(chan string, 2)
	observation, err := conn.Observe(ctx, "/3303/0/5700", func(notification *pool.Message) {
		body, _ := notification.ReadBody()
		values <- string(body)
	})
	require.NoError(t, err)
	require.Equal(t, "0", <-values)
	object.set(21.5)
	client.Notify(lwm2m.NewPath(3303))
	require.Equal(t, "21.5", <-values)
	require.NoError(t, observation.Cancel(ctx))

	end()
	require.NoError(t, <-ran)
	s.Stop()
	require.NoError(t, <-served)
	require.NoError(t, l.Close())
}
