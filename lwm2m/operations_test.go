package lwm2m_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestOperations(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, s *sensor, _ func(float64)) {
		ctx := t.Context()
		unit, reset := lwm2m.NewPath(3303, 0, 5701), lwm2m.NewPath(3303, 0, 5605)

		require.NoError(t, w.server.WriteValue(ctx, endpointName, unit, lwm2m.String("K")))
		require.Equal(t, "K", w.read("/3303/0/5701"))
		require.NoError(t, w.server.WritePartial(ctx, endpointName, lwm2m.NewPath(3303, 0), []lwm2m.Entry{
			{Path: unit, Value: lwm2m.String("F")},
		}))
		require.Equal(t, "F", w.read("/3303/0/5701"))

		require.NoError(t, w.server.Execute(ctx, endpointName, reset, ""))
		require.NoError(t, w.server.Execute(ctx, endpointName, reset, "0='x',5"))
		s.mu.Lock()
		require.Equal(t, []string{"", "0='x',5"}, s.executed)
		s.mu.Unlock()
		require.Eventually(t, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.after == 2
		}, time.Minute, time.Second)

		all, err := w.server.Read(ctx, endpointName, lwm2m.NewPath(3303))
		require.NoError(t, err)
		require.Len(t, all, 4)

		entries, err := w.server.ReadComposite(ctx, endpointName, []lwm2m.Path{unit, lwm2m.NewPath(3, 0, 3), lwm2m.NewPath(9, 9)})
		require.NoError(t, err)
		require.Equal(t, []lwm2m.Entry{
			{Path: lwm2m.NewPath(3, 0, 3), Value: lwm2m.String("1.0.0")}, {Path: unit, Value: lwm2m.String("F")},
		}, entries)

		require.NoError(t, w.server.WriteComposite(ctx, endpointName, []lwm2m.Entry{
			{Path: unit, Value: lwm2m.String("C")}, {Path: lwm2m.NewPath(1, 0, 1), Value: lwm2m.Integer(500)},
		}))
		require.Equal(t, "C", w.read("/3303/0/5701"))
		require.Equal(t, "500", w.read("/1/0/1"))

		found, err := w.server.Discover(ctx, endpointName, lwm2m.NewPath(3, 0))
		require.NoError(t, err)
		var paths []string
		for _, d := range found {
			paths = append(paths, d.Path.String())
		}
		require.Equal(t, "/3/0 /3/0/0 /3/0/3 /3/0/4 /3/0/11 /3/0/14 /3/0/15 /3/0/16", strings.Join(paths, " "))
	})
}

func TestRefusals(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, s *sensor, _ func(float64)) {
		read := func(path lwm2m.Path) func(context.Context) error {
			return func(ctx context.Context) error {
				_, err := w.server.Read(ctx, endpointName, path)
				return err
			}
		}
		readAs := func(path lwm2m.Path, f lwm2m.ContentFormat) func(context.Context) error {
			return func(ctx context.Context) error {
				return errOf(w.server.Do(ctx, lwm2m.Request{Endpoint: endpointName, Operation: lwm2m.OpRead, Path: path, Format: &f}))
			}
		}
		write := func(path lwm2m.Path, v lwm2m.Value) func(context.Context) error {
			return func(ctx context.Context) error { return w.server.WriteValue(ctx, endpointName, path, v) }
		}
		execute := func(path lwm2m.Path, args string) func(context.Context) error {
			return func(ctx context.Context) error { return w.server.Execute(ctx, endpointName, path, args) }
		}
		for _, test := range []struct {
			name string
			do   func(context.Context) error
			want error
		}{
			{"read of the root", read(lwm2m.Path{}), lwm2m.ErrPath},
			{"read of an object that is not there", read(lwm2m.NewPath(4711)), lwm2m.ErrNotFound},
			{"read of object 0", read(lwm2m.NewPath(0)), lwm2m.ErrNotFound},
			{"read of an instance that is not there", read(lwm2m.NewPath(3303, 1)), lwm2m.ErrNotFound},
			{"read of a resource that is not there", read(lwm2m.NewPath(3303, 0, 1)), lwm2m.ErrNotFound},
			{"read of a resource that is absent", read(lwm2m.NewPath(3, 0, 1)), lwm2m.ErrNotFound},
			{"read of an executable", read(lwm2m.NewPath(3, 0, 4)), lwm2m.ErrMethodNotAllowed},
			{"read of an instance as text", readAs(lwm2m.NewPath(3, 0), lwm2m.FormatText), lwm2m.ErrNotAcceptable},
			{"read in an unknown format", readAs(lwm2m.NewPath(3, 0), 9999), lwm2m.ErrNotAcceptable},
			{"write of what is read only", write(lwm2m.NewPath(3, 0, 3), lwm2m.String("x")), lwm2m.ErrMethodNotAllowed},
			{"write of lifetime 0", write(lwm2m.NewPath(1, 0, 1), lwm2m.Integer(0)), lwm2m.ErrBadRequest},
			{"write of an object", write(lwm2m.NewPath(1), lwm2m.Integer(0)), lwm2m.ErrPath},
			{"execute of what is no executable", execute(lwm2m.NewPath(3, 0, 3), ""), lwm2m.ErrMethodNotAllowed},
			{"execute with bad arguments", execute(lwm2m.NewPath(3, 0, 4), "x"), lwm2m.ErrMalformed},
			{"create", func(ctx context.Context) error {
				_, err := w.server.Create(ctx, endpointName, lwm2m.NewPath(3303), nil)
				return err
			}, lwm2m.ErrMethodNotAllowed},
			{"delete", func(ctx context.Context) error {
				return w.server.Delete(ctx, endpointName, lwm2m.NewPath(3303, 0))
			}, lwm2m.ErrMethodNotAllowed},
			{"composite write of what is not there", func(ctx context.Context) error {
				return w.server.WriteComposite(ctx, endpointName, []lwm2m.Entry{
					{Path: lwm2m.NewPath(3303, 0, 5701), Value: lwm2m.String("changed")},
					{Path: lwm2m.NewPath(3303, 7, 5701), Value: lwm2m.String("x")},
				})
			}, lwm2m.ErrNotFound},
			{"composite write of what is read only", func(ctx context.Context) error {
				return w.server.WriteComposite(ctx, endpointName, []lwm2m.Entry{
					{Path: lwm2m.NewPath(3303, 0, 5701), Value: lwm2m.String("changed")},
					{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(1)},
				})
			}, lwm2m.ErrMethodNotAllowed},
		} {
			require.ErrorIs(t, test.do(t.Context()), test.want, test.name)
		}
		require.Equal(t, "Cel", w.read("/3303/0/5701"), "a refused composite write changes nothing")
	})
}

// firmwareSink is object 5 with a streamed package.
type firmwareSink struct {
	sensor
	got     bytes.Buffer
	size    int64
	commits atomic.Int32
	aborts  atomic.Int32
}

func (f *firmwareSink) ID() uint16 { return 5 }

func (f *firmwareSink) OpenWrite(_ context.Context, path lwm2m.Path, size int64) (lwm2m.Sink, error) {
	if path != lwm2m.NewPath(5, 0, 0) {
		return nil, nil
	}
	f.got.Reset()
	f.size = size
	return f, nil
}

func (f *firmwareSink) Write(p []byte) (int, error) { return f.got.Write(p) }

func (f *firmwareSink) Commit(context.Context) error {
	f.commits.Add(1)
	return nil
}

func (f *firmwareSink) Abort(error) { f.aborts.Add(1) }

// sinkObject is the Object of a firmwareSink, which is a Sink.
type sinkObject struct{ *firmwareSink }

func (o sinkObject) Write(context.Context, lwm2m.Path, []lwm2m.Entry, bool) error {
	return lwm2m.ErrInternal // the client must stream everything
}

func (o sinkObject) OpenWrite(ctx context.Context, path lwm2m.Path, size int64) (lwm2m.Sink, error) {
	return o.firmwareSink.OpenWrite(ctx, path, size)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{7})
	r.Read(b)
	return b
}

func TestWriteStream(t *testing.T) {
	for _, test := range []struct {
		name      string
		size      int
		block     int
		exclusive bool
		loss      bool
	}{
		{"a byte", 1, 0, false, false},
		{"one block", 1024, 0, false, false},
		{"many blocks", 200_000, 0, false, false},
		{"small blocks, alone", 10_000, 64, true, false},
		{"loss", 50_000, 512, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				f := &firmwareSink{}
				w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, sinkObject{f}) })
				if test.loss {
					w.net.SetDefault(lossy)
				}
				image := randomBytes(test.size)
				var last int64
				err := errOf(w.server.Do(t.Context(), lwm2m.Request{
					Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(image), Size: int64(len(image)),
					BlockSize: test.block, Exclusive: test.exclusive, Progress: func(done, total int64) {
						last = done
						if total != int64(len(image)) {
							t.Errorf("total %d", total)
						}
					},
				}))
				require.NoError(t, err)
				require.True(t, bytes.Equal(image, f.got.Bytes()))
				require.EqualValues(t, 1, f.commits.Load())
				require.Zero(t, f.aborts.Load())
				if test.size > 1024 {
					require.EqualValues(t, len(image), f.size)
					require.EqualValues(t, len(image), last)
				}
			})
		})
	}
}

// TestStreamAndRequests reads during a push: beside it, or after it if the push is exclusive.
func TestStreamAndRequests(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			w.net.SetDefault(simnetDelay(50 * time.Millisecond))
			w.device(func(c *lwm2m.ClientConfig) { c.Objects = append(c.Objects, sinkObject{&firmwareSink{}}) })
			image := randomBytes(100 * 1024)
			done := make(chan error, 1)
			go func() {
				done <- errOf(w.server.Do(t.Context(), lwm2m.Request{
					Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(image), Size: int64(len(image)),
					Exclusive: exclusive,
				}))
			}()
			time.Sleep(time.Second)
			start := time.Now()
			require.Equal(t, "1.0.0", w.read("/3/0/3"))
			if exclusive {
				require.Greater(t, time.Since(start), 5*time.Second)
			} else {
				require.Less(t, time.Since(start), time.Second)
			}
			require.NoError(t, <-done)
		})
	}
}

// TestBigValues transfers values of several blocks in both directions, and a registration of
// several blocks.
func TestBigValues(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{Models: sensorModels(t)}, func(t *testing.T, w *world) {
		w.net.SetDefault(lossy)
		s := &sensor{}
		w.device(func(c *lwm2m.ClientConfig) {
			c.Models = sensorModels(t)
			c.Objects = append(c.Objects, s)
			for id := range uint16(400) {
				c.Objects = append(c.Objects, emptyObject(10000+id))
			}
		})
		r, _ := w.server.Registration(endpointName)
		require.Greater(t, len(r.Links), 3000)
		require.Len(t, r.Objects().Objects, 403)
		blob := lwm2m.Opaque(randomBytes(20_000))
		require.NoError(t, w.server.WriteValue(t.Context(), endpointName, lwm2m.NewPath(3303, 0, 6000), blob))
		entries, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(3303, 0, 6000))
		require.NoError(t, err)
		require.Equal(t, []lwm2m.Entry{{Path: lwm2m.NewPath(3303, 0, 6000), Value: blob}}, entries)
	})
}

// emptyObject is an object without instances.
type emptyObject uint16

func (o emptyObject) ID() uint16          { return uint16(o) }
func (o emptyObject) Version() string     { return "" }
func (o emptyObject) Instances() []uint16 { return nil }

func (o emptyObject) Read(context.Context, lwm2m.Path) ([]lwm2m.Entry, error) {
	return nil, lwm2m.ErrNotFound
}

func (o emptyObject) Write(context.Context, lwm2m.Path, []lwm2m.Entry, bool) error {
	return lwm2m.ErrNotFound
}

func (o emptyObject) Execute(context.Context, lwm2m.Path, string) error { return lwm2m.ErrNotFound }
