package lwm2m_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
)

// collector is an object 5 that only accepts a push.
type collector struct {
	*lwm2m.ValueObject
	got chan []byte
}

func newCollector() collector {
	o := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 5, Values: []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0)}}})
	return collector{o, make(chan []byte, 1)}
}

func (c collector) OpenWrite(context.Context, lwm2m.Path, int64) (lwm2m.Sink, error) {
	return &pushed{got: c.got}, nil
}

// pushed is the Sink of a collector.
type pushed struct {
	bytes.Buffer
	got chan []byte
}

func (p *pushed) Commit(context.Context) error { p.got <- p.Bytes(); return nil }
func (p *pushed) Abort(error)                  {}

// cutter is a listener whose connections a test can cut.
type cutter struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.conns = append(c.conns, conn)
	}
	return conn, err
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
}

// TestStreams runs a device over TCP and over TLS, through Register, Read, Observe, a push, a
// download and the loss of its connection.
func TestStreams(t *testing.T) {
	pool, certificate := testkit.SelfSigned(t, endpointName)
	for _, scheme := range []string{"coap+tcp", "coaps+tcp"} {
		t.Run(scheme, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			raw, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			cutting := &cutter{Listener: raw}
			var l net.Listener = cutting
			if scheme == "coaps+tcp" {
				l = tls.NewListener(l, &tls.Config{
					Certificates: []tls.Certificate{certificate}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
				})
			}
			server := lwm2m.MustServer(lwm2m.ServerConfig{})
			image := bytes.Repeat([]byte("image"), 20_000)
			server.Handle("/fw/x", &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte{1}})
			registered := make(chan lwm2m.Registration, 4)
			server.Watch(func(e lwm2m.RegistrationEvent) {
				if e.Kind == lwm2m.EventRegistered {
					registered <- e.Registration
				}
			})
			served := make(chan error, 2)
			go func() { served <- server.Serve(ctx, l) }()

			object := newCollector()
			device := lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: "1.0"})
			uri := scheme + "://" + raw.Addr().String()
			config := lwm2m.ClientConfig{
				Endpoint: endpointName, Server: uri, MinRetry: 10 * time.Millisecond,
				Objects: []lwm2m.Object{device, object},
			}
			if scheme == "coaps+tcp" {
				config.Certificate, config.RootCAs = &certificate, pool
			}
			client, err := lwm2m.NewClient(config)
			require.NoError(t, err)
			go func() { served <- client.Run(ctx) }()
			r := <-registered
			require.Equal(t, scheme, r.Transport.String())
			require.Equal(t, scheme == "coaps+tcp", r.Secured)

			entries, err := server.Read(ctx, endpointName, lwm2m.NewPath(3, 0, 3))
			require.NoError(t, err)
			require.Equal(t, lwm2m.String("1.0"), entries[0].Value)

			values := make(chan lwm2m.Value, 4)
			_, err = server.Observe(ctx, endpointName, lwm2m.NewPath(3, 0, 3), func(e []lwm2m.Entry) { values <- e[0].Value })
			require.NoError(t, err)
			require.Equal(t, lwm2m.String("1.0"), <-values)
			device.Set(lwm2m.NewPath(3, 0, 3), lwm2m.String("1.1"))
			require.Equal(t, lwm2m.String("1.1"), <-values)

			body := bytes.Repeat([]byte{7}, 100_000)
			require.NoError(t, errOf(server.Do(ctx, lwm2m.Request{
				Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(body), Size: int64(len(body)),
				Exclusive: true,
			})))
			require.True(t, bytes.Equal(body, <-object.got))

			var into bytes.Buffer
			_, err = lwm2m.Fetch(ctx, uri+"/fw/x", &into, lwm2m.FetchConfig{Certificate: &certificate, RootCAs: pool})
			require.NoError(t, err)
			require.True(t, bytes.Equal(image, into.Bytes()))

			cutting.cut()
			again := <-registered
			require.NotEqual(t, r.ID, again.ID)
			_, err = server.Read(ctx, endpointName, lwm2m.NewPath(3, 0, 3))
			require.NoError(t, err)
			cancel()
			require.NoError(t, <-served)
			require.NoError(t, <-served)
		})
	}
}

// TestTLSNeedsCertificates: the server refuses to serve TLS without certificates.
func TestTLSNeedsCertificates(t *testing.T) {
	require.ErrorIs(t, lwm2m.MustServer(lwm2m.ServerConfig{}).ListenAndServe(t.Context(), "coaps+tcp://127.0.0.1:0"),
		lwm2m.ErrNoCertificate)
}
