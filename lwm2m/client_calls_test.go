package lwm2m_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
	"github.com/otago-iot/otago/lwm2m"
)

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
					var log testkit.Log
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
				_, end := w.wildDevice(o, &testkit.Log{}, nil)
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
				var log testkit.Log
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
		var log testkit.Log
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

// TestObserveBusyObject: while calls hang that leave no room for a Read, a change is not reported;
// it is reported when they have returned. An observation ends if they do not return.
func TestObserveBusyObject(t *testing.T) {
	for name, returns := range map[string]bool{"they return": true, "they do not": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
				held := make(chan struct{})
				o := &wild{method: "Execute", do: func(context.Context) { <-held }}
				client, end := w.wildDevice(o, &testkit.Log{}, func(c *lwm2m.ClientConfig) { c.Lifetime = time.Hour })
				v := &values{}
				observation, err := w.server.Observe(t.Context(), endpointName, sensorValue, v.add)
				require.NoError(t, err)
				for range 8 {
					require.ErrorIs(t, w.provoke(t.Context(), "Execute"), lwm2m.ErrTimeout)
				}
				v.take()
				o.set(1)
				client.Notify(sensorValue)
				time.Sleep(4 * time.Minute)
				require.Empty(t, v.texts())
				require.NoError(t, observation.Err())
				if returns {
					close(held)
				}
				time.Sleep(2 * time.Minute)
				if returns {
					require.Equal(t, []string{"1"}, v.texts())
					o.set(2)
					client.Notify(sensorValue)
					time.Sleep(time.Second)
					require.Equal(t, []string{"2"}, v.texts(), "the pause is over")
					require.NoError(t, observation.Err())
				} else {
					require.ErrorIs(t, observation.Err(), lwm2m.ErrUnavailable)
					close(held)
				}
				require.NoError(t, end())
			})
		})
	}
}

// TestObserveUnavailable: an object that is unavailable for a moment keeps its observations.
func TestObserveUnavailable(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		o := &moody{ValueObject: lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: 20000, Values: []lwm2m.Entry{entryOf("/20000/0/1", lwm2m.Integer(1))},
		})}
		w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, o) })
		seen := make(chan string, 10)
		path := mustPath(t, "/20000/0/1")
		var pmax lwm2m.Attributes
		require.NoError(t, pmax.Set(lwm2m.AttributePMax, 60))
		require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, path, pmax))
		_, err := w.server.Observe(t.Context(), endpointName, path, func(e []lwm2m.Entry) { seen <- text(e) })
		require.NoError(t, err)
		wait(t)
		for range 2 {
			<-seen
			o.unavailable.Store(true)
			time.Sleep(2 * time.Minute)
			require.Empty(t, seen)
			o.unavailable.Store(false)
			time.Sleep(31 * time.Second)
			require.Len(t, seen, 1, "the notification that is due without a change")
		}
	})
}

// moody is an object whose values may be unavailable.
type moody struct {
	*lwm2m.ValueObject
	unavailable atomic.Bool
}

func (m *moody) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	if m.unavailable.Load() {
		return nil, lwm2m.ErrUnavailable
	}
	return m.ValueObject.Read(ctx, path)
}

// TestAfterResponseHangs: while functions do not return, the client refuses requests that may add
// more of them, and serves others.
func TestAfterResponseHangs(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		never := make(chan struct{})
		o := &wild{method: "AfterResponse", do: func(context.Context) { <-never }}
		_, end := w.wildDevice(o, &testkit.Log{}, nil)
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
	var log testkit.Log
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	called := make(chan struct{})
	lwm2m.AfterResponse(t.Context(), func() {
		defer close(called)
		panic("broken")
	})
	<-called
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("panicked")) }, 20*time.Second, time.Millisecond)
}
