package lwm2m_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// logBuffer is a log for concurrent readers and writers.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
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

// TestProgramPanics: each function of the program panics, or ends its goroutine. The client goes
// on, and logs it.
func TestProgramPanics(t *testing.T) {
	for _, method := range []string{
		"Read", "Write", "Execute", "AfterResponse", "Instances", "Version", "OpenWrite", "Sink.Write", "Sink.Commit", "Sink.Abort",
	} {
		for how, do := range map[string]func(context.Context){
			"panics":          func(context.Context) { panic("this is broken") },
			"goes":            func(context.Context) { runtime.Goexit() },
			"panics with nil": func(context.Context) { panic(nil) },
		} {
			t.Run(method+" "+how, func(t *testing.T) {
				inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
					o := &wild{method: method, do: do}
					var log logBuffer
					client, end := w.wildDevice(o, &log, nil)
					err := w.provoke(t.Context(), method)
					switch method {
					case "AfterResponse", "Sink.Abort":
						require.NoError(t, err, "it was answered before, or is about another value")
					default:
						require.ErrorIs(t, err, lwm2m.ErrInternal)
					}
					synctest.Wait()
					require.Contains(t, log.String(), "a function of the program panicked")
					require.Contains(t, log.String(), "client_calls_test.go", "the stack")
					client.Notify(lwm2m.NewPath(3303)) // makes the client list its objects
					time.Sleep(time.Minute)
					require.Equal(t, "1.0.0", w.read("/3/0/3"))
					require.True(t, client.Registered())
					o.loose.Store(false)
					require.NoError(t, w.provoke(t.Context(), method))
					require.NoError(t, end())
				})
			})
		}
	}
}

// TestProgramPanicsBeforeRegistration: the client tries again.
func TestProgramPanicsBeforeRegistration(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var listened atomic.Int32
		w.device(func(c *lwm2m.ClientConfig) {
			listen := c.Listen
			c.Listen = func(ctx context.Context) (net.PacketConn, error) {
				if listened.Add(1) == 1 {
					panic("no socket")
				}
				return listen(ctx)
			}
		})
		require.EqualValues(t, 2, listened.Load())
	})
	_, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "a", Server: "coap://h", Objects: []lwm2m.Object{(*sensor)(nil), (*growingObject)(nil)},
	})
	require.ErrorContains(t, err, "panicked")
}

// TestRunnerPanics: a Runner that panics ends the client with an error.
func TestRunnerPanics(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		for _, do := range []func(context.Context){func(context.Context) { panic("broken") }, func(context.Context) { runtime.Goexit() }} {
			o := &wild{method: "Run", do: do}
			o.loose.Store(true)
			client, err := lwm2m.NewClient(lwm2m.ClientConfig{
				Endpoint: endpointName, Server: "coap://" + serverAddress, Objects: []lwm2m.Object{o},
				Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) },
			})
			require.NoError(w.t, err)
			require.ErrorContains(t, client.Run(t.Context()), "panicked")
		}
	})
}

// TestRunJoins: Run waits for slow functions, whose context has ended, and afterwards calls none.
func TestRunJoins(t *testing.T) {
	for _, method := range []string{"Read", "Write", "Execute", "AfterResponse", "Instances", "OpenWrite", "Sink.Write", "Sink.Commit"} {
		t.Run(method, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
				var returned, told atomic.Bool
				o := &wild{method: method, do: func(ctx context.Context) {
					begun := time.Now()
					select {
					case <-ctx.Done():
						told.Store(true)
					case <-time.After(19 * time.Second):
					}
					time.Sleep(time.Until(begun.Add(19 * time.Second)))
					returned.Store(true)
				}}
				_, end := w.wildDevice(o, &logBuffer{}, nil)
				asked := make(chan error, 1)
				go func() { asked <- w.provoke(t.Context(), method) }()
				time.Sleep(time.Second)
				require.NoError(t, end())
				require.True(t, returned.Load())
				require.Equal(t, method != "Instances", told.Load())
				w.stop()
				<-asked
				time.Sleep(time.Hour)
				require.Zero(t, o.late.Load(), "called after Run has returned")
			})
		})
	}
}

// TestRunLeavesBehind: Run waits one minute for functions that never return.
func TestRunLeavesBehind(t *testing.T) {
	for _, method := range []string{"Read", "Execute", "AfterResponse", "Instances", "Sink.Write", "Run"} {
		t.Run(method, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
				never := make(chan struct{})
				defer close(never)
				o := &wild{method: method, do: func(context.Context) { <-never }}
				var log logBuffer
				o.loose.Store(method == "Run")
				_, end := w.wildDevice(o, &log, nil)
				asked := make(chan error, 1)
				go func() { asked <- w.provoke(t.Context(), method) }()
				time.Sleep(time.Second)
				began := time.Now()
				require.NoError(t, end())
				require.InDelta(t, time.Minute, time.Since(began), float64(6*time.Second))
				require.Contains(t, log.String(), "left behind")
				w.stop()
				<-asked
			})
		})
	}
}

// TestProgramHangs: while a method hangs, its requests time out, and other requests are answered at
// once.
func TestProgramHangs(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		never := make(chan struct{})
		o := &wild{method: "Read", do: func(context.Context) { <-never }}
		var log logBuffer
		client, end := w.wildDevice(o, &log, func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
		for range 8 {
			require.ErrorIs(t, w.provoke(t.Context(), "Read"), lwm2m.ErrTimeout)
			require.Equal(t, "1.0.0", w.read("/3/0/3"))
		}
		time.Sleep(5 * time.Minute)
		require.Contains(t, log.String(), "has not returned")
		began := time.Now()
		require.ErrorIs(t, w.provoke(t.Context(), "Read"), lwm2m.ErrUnavailable)
		require.Less(t, time.Since(began), time.Second, "so many are not left behind without an end")
		require.True(t, client.Registered())
		close(never)
		synctest.Wait()
		require.NoError(t, w.provoke(t.Context(), "Read"))
		require.NoError(t, end())
	})
}

// TestAfterResponseHangs: while functions do not return, the client refuses requests that may add
// more of them, and serves others.
func TestAfterResponseHangs(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		never := make(chan struct{})
		o := &wild{method: "AfterResponse", do: func(context.Context) { <-never }}
		_, end := w.wildDevice(o, &logBuffer{}, nil)
		for range 8 {
			require.NoError(t, w.provoke(t.Context(), "Execute"))
		}
		require.ErrorIs(t, w.provoke(t.Context(), "Execute"), lwm2m.ErrUnavailable)
		require.ErrorIs(t, w.provoke(t.Context(), "Write"), lwm2m.ErrUnavailable)
		require.NoError(t, w.provoke(t.Context(), "Read"))
		_, err := w.server.ReadComposite(t.Context(), endpointName, []lwm2m.Path{lwm2m.NewPath(3, 0, 3)})
		require.NoError(t, err)
		close(never)
		synctest.Wait()
		require.NoError(t, w.provoke(t.Context(), "Execute"))
		require.NoError(t, end())
	})
}

// TestAfterResponseElsewhere: with a context of no request AfterResponse calls the function at
// once, and logs a panic.
func TestAfterResponseElsewhere(t *testing.T) {
	old := slog.Default()
	defer slog.SetDefault(old)
	var log logBuffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	called := make(chan struct{})
	lwm2m.AfterResponse(t.Context(), func() {
		defer close(called)
		panic("broken")
	})
	<-called
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("panicked")) }, 10*time.Second, time.Millisecond)
}
