package device

import (
	"bytes"
	"context"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestTransferLengths: a transfer by any protocol takes no more bytes than were announced, and
// refuses another size for the same entity tag.
func TestTransferLengths(t *testing.T) {
	begin := func(size int64) *transfer {
		r := newRig(t)
		require.NoError(t, r.start())
		t.Cleanup(r.stop)
		tr := &transfer{device: r.device, ctx: t.Context(), etag: "aa", size: size, offset: 4}
		out, err := r.open.OpenPackage(t.Context(), 0, size)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, out.Close()) })
		tr.out = out
		return tr
	}
	tr := begin(10)
	tr.begun(lwm2m.FetchResult{ETag: []byte{0xaa}, Size: 10})
	_, err := tr.Write(make([]byte, 6))
	require.NoError(t, err)
	require.NoError(t, tr.reached())
	_, err = tr.Write(make([]byte, 1))
	require.ErrorIs(t, err, errStartOver)

	tr = begin(10)
	_, err = tr.Write(make([]byte, 5))
	require.NoError(t, err)
	require.ErrorContains(t, tr.reached(), "9 of 10")

	tr = begin(10)
	tr.begun(lwm2m.FetchResult{ETag: []byte{0xaa}, Size: 9})
	_, err = tr.Write(make([]byte, 5))
	require.ErrorIs(t, err, errStartOver)
	tr.offset = 9
	require.ErrorIs(t, tr.reached(), errStartOver)

	tr = begin(-1)
	tr.begun(lwm2m.FetchResult{ETag: []byte{0xaa}, Size: -1})
	_, err = tr.Write(make([]byte, 100))
	require.NoError(t, err)
	tr.begun(lwm2m.FetchResult{ETag: []byte{0xaa}, Size: 104})
	require.NoError(t, tr.reached())
}

// transportFunc is a RoundTripper of the program.
type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// served answers a request as a server with the package does.
func served(q *http.Request, image []byte) *http.Response {
	w := httptest.NewRecorder()
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(image))
	resp := w.Result()
	resp.Body = body{q.Context(), resp.Body}
	return resp
}

// A body ends with its request, as that of a connection does.
type body struct {
	ctx context.Context
	in  io.ReadCloser
}

func (b body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.in.Read(p)
}

func (b body) Close() error { return b.in.Close() }

// TestSilence: a try ends after the server has been silent for Idle, and the next one goes on with
// what the device has.
func TestSilence(t *testing.T) {
	image := testImage("2.0", 50000)
	silence := func(q *http.Request) (int, error) {
		<-q.Context().Done()
		return 0, q.Context().Err()
	}
	t.Run("at once", func(t *testing.T) {
		hooked(t, func(r *rig, _ <-chan struct{}) {
			requests := 0
			r.config.Transport = transportFunc(func(q *http.Request) (*http.Response, error) {
				requests++
				_, err := silence(q)
				return nil, err
			})
			r.config.Idle = time.Second
			require.NoError(r.t, r.start())
			within(r.t, 5*time.Second, 6*time.Second, func() {
				require.NoError(r.t, r.write(resURI, lwm2m.String("http://fw.example.com/x")))
				r.wait(fsm.Idle, fsm.ResultConnectionLost)
			})
			require.Equal(r.t, 5, requests)
		})
	})
	t.Run("in the middle", func(t *testing.T) {
		hooked(t, func(r *rig, _ <-chan struct{}) {
			var ranges []string
			r.config.Transport = transportFunc(func(q *http.Request) (*http.Response, error) {
				ranges = append(ranges, q.Header.Get("Range"))
				resp := served(q, image)
				if len(ranges) == 1 {
					rest := readerFunc(func([]byte) (int, error) { return silence(q) })
					resp.Body = body{q.Context(), io.NopCloser(io.MultiReader(io.LimitReader(resp.Body, 10000), rest))}
				}
				return resp, nil
			})
			r.config.Idle = time.Second
			require.NoError(r.t, r.start())
			within(r.t, time.Second, 2*time.Second, func() {
				require.NoError(r.t, r.write(resURI, lwm2m.String("http://fw.example.com/x")))
				r.wait(fsm.Downloaded, fsm.ResultDefault)
			})
			require.Equal(r.t, []string{"", "bytes=10000-"}, ranges)
			stored, err := os.ReadFile(r.open.imagePath(slotA))
			require.NoError(r.t, err)
			require.Equal(r.t, image, stored)
		})
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestTransportAnswers: the responses of the program's RoundTripper are checked like those of a
// server.
func TestTransportAnswers(t *testing.T) {
	image := testImage("2.0", 1000)
	answer := func(change func(*http.Response)) transportFunc {
		return func(r *http.Request) (*http.Response, error) {
			resp := &http.Response{
				StatusCode: 200, ProtoMajor: 2, ContentLength: int64(len(image)), Header: http.Header{}, Request: r,
				Body: io.NopCloser(bytes.NewReader(image)),
			}
			change(resp)
			return resp, nil
		}
	}
	for name, tc := range map[string]struct {
		change func(*http.Response)
		want   fsm.Result
	}{
		"good":                   {func(*http.Response) {}, fsm.ResultDefault},
		"an end by HTTP/2":       {func(r *http.Response) { r.ContentLength = -1 }, fsm.ResultDefault},
		"decompressed":           {func(r *http.Response) { r.Uncompressed = true }, fsm.ResultUnsupFirmware},
		"more than it announced": {func(r *http.Response) { r.ContentLength = 999 }, fsm.ResultConnectionLost},
		"less than it announced": {func(r *http.Response) { r.ContentLength = 1001 }, fsm.ResultConnectionLost},
		"no body":                {func(r *http.Response) { r.Body, r.ContentLength = nil, 0 }, fsm.ResultUnsupFirmware},
	} {
		r := newRig(t)
		r.config.Attempts = 2
		r.config.Transport = answer(tc.change)
		require.NoError(t, r.start())
		require.NoError(t, r.write(resURI, lwm2m.String("http://fw.example.com/x")))
		if tc.want == fsm.ResultDefault {
			r.wait(fsm.Downloaded, fsm.ResultDefault)
		} else {
			o := r.wait(fsm.Idle, tc.want)
			require.Equal(t, fsm.Idle, o.State, name)
		}
		r.stop()
	}
}

// TestRoom: a package that is larger than the one it replaces needs the difference as free space,
// whatever size is announced.
func TestRoom(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.start())
	for _, size := range []int64{math.MaxInt64, math.MaxInt64 - reserve, math.MaxInt64 - reserve + 1, 1 << 62} {
		_, err := r.open.OpenPackage(t.Context(), 0, size)
		require.ErrorIs(t, err, ErrNoStorage, "%d", size)
		_, err = r.open.OpenPackage(t.Context(), 1, size)
		require.ErrorIs(t, err, ErrNoStorage, "%d", size)
	}
	free, err := r.open.disk.free(r.dir)
	require.NoError(t, err)
	_, err = r.open.OpenPackage(t.Context(), 0, free+1)
	require.ErrorIs(t, err, ErrNoStorage)

	// A sparse file takes no space, but counts as replaced.
	w, err := r.open.OpenPackage(t.Context(), 0, 1)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.NoError(t, os.Truncate(r.open.imagePath(slotA), 64<<30))
	w, err = r.open.OpenPackage(t.Context(), 0, free+1<<30)
	require.NoError(t, err, "what is in the slot gives way")
	require.NoError(t, w.Close())
	r.stop()
	for _, limit := range []int64{math.MaxInt64, math.MaxInt64 - 1} {
		r.slots.MaxSize = limit
		require.NoError(t, r.start())
		w, err := r.open.OpenPackage(t.Context(), 0, 1000)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		r.stop()
	}
}
