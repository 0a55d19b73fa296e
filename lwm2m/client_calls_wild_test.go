package lwm2m_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// wild is an object 3303 whose method named method calls do, once loose is set.
type wild struct {
	sensor
	method string
	do     func(ctx context.Context)
	loose  atomic.Bool
	over   atomic.Bool // Run has returned
	late   atomic.Int32
}

func (w *wild) in(ctx context.Context, method string) {
	if w.over.Load() {
		w.late.Add(1)
	}
	if w.method == method && w.loose.Load() {
		w.do(ctx)
	}
}

func (w *wild) Instances() []uint16 {
	w.in(context.Background(), "Instances")
	return []uint16{0}
}

func (w *wild) Version() string {
	w.in(context.Background(), "Version")
	return ""
}

func (w *wild) FollowVersion(lwm2m.Version) { w.in(context.Background(), "FollowVersion") }

func (w *wild) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	w.in(ctx, "Read")
	return w.sensor.Read(ctx, path)
}

func (w *wild) Write(ctx context.Context, path lwm2m.Path, entries []lwm2m.Entry, replace bool) error {
	w.in(ctx, "Write")
	return w.sensor.Write(ctx, path, entries, replace)
}

func (w *wild) Execute(ctx context.Context, path lwm2m.Path, args string) error {
	w.in(ctx, "Execute")
	lwm2m.AfterResponse(ctx, func() { w.in(ctx, "AfterResponse") })
	return w.sensor.Execute(ctx, path, args)
}

func (w *wild) OpenWrite(ctx context.Context, _ lwm2m.Path, _ int64) (lwm2m.Sink, error) {
	w.in(ctx, "OpenWrite")
	return wildSink{w, ctx}, nil
}

func (w *wild) Run(ctx context.Context, _ *lwm2m.Client) error {
	w.in(ctx, "Run")
	<-ctx.Done()
	return nil
}

type wildSink struct {
	w   *wild
	ctx context.Context
}

func (s wildSink) Write(p []byte) (int, error) {
	s.w.in(s.ctx, "Sink.Write")
	return len(p), nil
}

func (s wildSink) Commit(ctx context.Context) error {
	s.w.in(ctx, "Sink.Commit")
	return nil
}

func (s wildSink) Abort(error) { s.w.in(s.ctx, "Sink.Abort") }

// provoke makes the server send a request that calls a method of a wild object.
func (w *world) provoke(ctx context.Context, method string) error {
	value, blob := lwm2m.NewPath(3303, 0, 5700), lwm2m.NewPath(3303, 0, 6000)
	switch method {
	case "Read", "Instances", "Version":
		_, err := w.server.Read(ctx, endpointName, value)
		return err
	case "Write":
		return w.server.WriteValue(ctx, endpointName, lwm2m.NewPath(3303, 0, 5701), lwm2m.String("K"))
	case "Execute", "AfterResponse":
		return w.server.Execute(ctx, endpointName, lwm2m.NewPath(3303, 0, 5605), "")
	case "Sink.Abort": // a transfer begins, and then another
		_ = w.server.WriteStream(ctx, endpointName, blob, brokenAfter(3000), 5000)
		return w.server.WriteStream(ctx, endpointName, blob, bytes.NewReader(make([]byte, 5000)), 5000)
	default:
		return w.server.WriteStream(ctx, endpointName, blob, bytes.NewReader(make([]byte, 5000)), 5000)
	}
}

// brokenAfter is a reader that fails after so many bytes.
type brokenAfter int64

func (b brokenAfter) ReadAt(p []byte, offset int64) (int, error) {
	if offset+int64(len(p)) > int64(b) {
		return 0, errors.New("broken")
	}
	return len(p), nil
}

// wildDevice starts a client with a wild object, sets it loose, and returns a function that ends
// the client.
func (w *world) wildDevice(o *wild, log io.Writer, change func(*lwm2m.ClientConfig)) (client *lwm2m.Client, end func() error) {
	w.t.Helper()
	config := lwm2m.ClientConfig{
		Endpoint: endpointName, Server: "coap://" + serverAddress, Models: sensorModels(w.t),
		Objects: []lwm2m.Object{o, lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{Manufacturer: "Otago", FirmwareVersion: "1.0.0"})},
		Logger:  slog.New(slog.NewTextHandler(log, nil)),
		Listen:  func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
	}
	if change != nil {
		change(&config)
	}
	client, err := lwm2m.NewClient(config)
	require.NoError(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := client.Run(ctx)
		o.over.Store(true)
		done <- err
	}()
	require.NoError(w.t, client.WaitRegistered(w.t.Context()))
	synctest.Wait()
	o.loose.Store(true)
	return client, func() error {
		cancel()
		return <-done
	}
}
