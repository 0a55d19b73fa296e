package lwm2m_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// TestWritesFindAFormat writes to devices that accept only some formats.
func TestWritesFindAFormat(t *testing.T) {
	for _, test := range []struct {
		name    string
		version string
		links   string
		value   lwm2m.Value
		takes   lwm2m.ContentFormat
		refuses coap.Code
		tried   []lwm2m.ContentFormat
	}{
		{"text", "1.1", "</5/0>", lwm2m.String("x"), lwm2m.FormatText, coap.UnsupportedMediaType, []lwm2m.ContentFormat{0}},
		{"TLV only", "1.0", "</5/0>", lwm2m.String("x"), lwm2m.FormatTLV, coap.UnsupportedMediaType, []lwm2m.ContentFormat{0, 11542}},
		{"TLV only, says 4.06", "1.1", "</5/0>", lwm2m.String("x"), lwm2m.FormatTLV, coap.NotAcceptable, []lwm2m.ContentFormat{0, 112, 11542}},
		{"as announced", "1.1", `</>;rt="oma.lwm2m";ct=110,</5/0>`, lwm2m.String("x"), lwm2m.FormatSenMLJSON, coap.UnsupportedMediaType,
			[]lwm2m.ContentFormat{0, 110}},
		{"CBOR", "1.1", "</5/0>", lwm2m.String("x"), lwm2m.FormatCBOR, coap.UnsupportedMediaType,
			[]lwm2m.ContentFormat{0, 112, 11542, 110, 11544, 60}},
		{"bytes as they are", "1.1", "</5/0>", lwm2m.Opaque([]byte{1}), lwm2m.FormatOpaque, coap.UnsupportedMediaType, []lwm2m.ContentFormat{42}},
		{"nothing", "1.0", "</5/0>", lwm2m.Opaque([]byte{1}), 9999, coap.UnsupportedMediaType, []lwm2m.ContentFormat{42, 11542, 11543}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				var tried []lwm2m.ContentFormat
				w.foreign(test.links, []string{"lwm2m=" + test.version}, func(r *coap.IncomingRequest) *coap.Response {
					f, ok := r.ContentFormat().Get()
					require.True(t, ok)
					tried = append(tried, lwm2m.ContentFormat(f))
					if lwm2m.ContentFormat(f) == test.takes {
						return &coap.Response{Code: coap.Changed}
					}
					return &coap.Response{Code: test.refuses}
				})
				path := lwm2m.NewPath(5, 0, 1)
				if test.value.Type() == lwm2m.TypeOpaque {
					path = lwm2m.NewPath(5, 0, 0)
				}
				err := w.server.WriteValue(t.Context(), endpointName, path, test.value)
				if test.takes == 9999 {
					require.ErrorIs(t, err, lwm2m.ErrUnsupportedFormat)
				} else {
					require.NoError(t, err)
				}
				require.Equal(t, test.tried, tried)
			})
		})
	}
}

// TestReadsTakeAnyFormat: a device answers one Read in many formats.
func TestReadsTakeAnyFormat(t *testing.T) {
	for _, answer := range []*coap.Response{
		content(0, "2"),
		content(60, "\x02"),
		content(11542, "\xc1\x03\x02"),
		content(1542, "\xc1\x03\x02"),
		content(112, "\x81\xa2\x21\x66/5/0/3\x02\x02"),
		content(110, `[{"bn":"/5/0/","n":"3","v":2}]`),
		content(11543, `{"bn":"/5/0/3","e":[{"v":2}]}`),
		content(11544, "\xbf\x83\x05\x00\x03\x02\xff"),
		{Code: coap.Content, Payload: []byte("2")},
	} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			w.foreign("</5/0>", nil, func(r *coap.IncomingRequest) *coap.Response {
				require.False(t, r.AcceptFormat().IsSet(), "the device chooses")
				return answer
			})
			entries, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3))
			require.NoError(t, err)
			require.Equal(t, []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(2)}}, entries)
		})
	}
}

// TestAnswersThatAreWrong: false answers, junk and refusals become errors.
func TestAnswersThatAreWrong(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer *coap.Response
		want   error
	}{
		{"another resource", content(112, "\x81\xa2\x21\x66/5/0/5\x02\x02"), lwm2m.ErrMalformed},
		{"junk", content(112, "\xff\xff"), lwm2m.ErrMalformed},
		{"not a number", content(0, "two"), lwm2m.ErrMalformed},
		{"unknown format", content(9999, "2"), lwm2m.ErrUnsupportedFormat},
		{"4.04", &coap.Response{Code: coap.NotFound}, lwm2m.ErrNotFound},
		{"4.29", &coap.Response{Code: coap.TooManyRequests}, lwm2m.ErrRefused},
		{"5.03", &coap.Response{Code: coap.ServiceUnavailable}, lwm2m.ErrUnavailable},
		{"5.00 with a text", &coap.Response{Code: coap.InternalServerError, Payload: bytes.Repeat([]byte("\xff!"), 500)}, lwm2m.ErrInternal},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return test.answer })
				_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3))
				require.ErrorIs(t, err, test.want)
				require.Less(t, len(err.Error()), 1500)
				var re *lwm2m.ResponseError
				if test.answer.Code>>5 != 2 {
					require.ErrorAs(t, err, &re)
					require.Equal(t, lwm2m.NewPath(5, 0, 3), re.Path)
					require.LessOrEqual(t, len(re.Diagnostic), 256)
				}
			})
		})
	}
}

// TestAlternateRoot reads from a device whose objects are not at its root.
func TestAlternateRoot(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		d := w.foreign(`</lwm2m>;rt="oma.lwm2m",</lwm2m/5/0>`, nil, func(*coap.IncomingRequest) *coap.Response { return content(0, "2") })
		_, err := w.server.Read(t.Context(), endpointName, lwm2m.NewPath(5, 0, 3))
		require.NoError(t, err)
		require.Equal(t, []string{"GET /lwm2m/5/0/3"}, d.seen())
	})
}

// TestAlternateRootInNames: SenML names have the root too, in both directions.
func TestAlternateRootInNames(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var bodies []string
		state := lwm2m.NewPath(5, 0, 3)
		d := w.foreign(`</lwm2m>;rt="oma.lwm2m";ct=110,</lwm2m/5/0>`, []string{"lwm2m=1.1"}, func(r *coap.IncomingRequest) *coap.Response {
			bodies = append(bodies, string(r.Payload))
			if r.Code == coap.IPATCH {
				return &coap.Response{Code: coap.Changed}
			}
			return content(110, `[{"bn":"/lwm2m/5/0/","n":"3","v":2}]`)
		})
		want := []lwm2m.Entry{{Path: state, Value: lwm2m.Integer(2)}}
		for range 2 {
			entries, err := w.server.Read(t.Context(), endpointName, state)
			require.NoError(t, err)
			require.Equal(t, want, entries)
		}
		entries, err := w.server.ReadComposite(t.Context(), endpointName, []lwm2m.Path{state})
		require.NoError(t, err)
		require.Equal(t, want, entries)
		require.NoError(t, w.server.WriteComposite(t.Context(), endpointName, want))
		require.Equal(t, []string{"", "", `[{"n":"/lwm2m/5/0/3"}]`, `[{"bn":"/lwm2m","n":"/5/0/3","v":2}]`}, bodies)

		var sent []lwm2m.Entry
		w.server.Watch(func(e lwm2m.RegistrationEvent) { sent = append(sent, e.Entries...) })
		resp, err := d.endpoint.Do(t.Context(), d.server, &coap.Request{
			Code: coap.POST, Path: []string{"dp"}, ContentFormat: coap.FormatOf(110), Payload: []byte(`[{"n":"/lwm2m/5/0/3","v":2}]`),
		})
		require.NoError(t, err)
		require.Equal(t, coap.Changed, resp.Code)
		synctest.Wait()
		require.Equal(t, want, sent)
	})
}

// TestEmptyAnswers: an answer without a payload means that there are no values, unless its format
// is text.
func TestEmptyAnswers(t *testing.T) {
	for _, test := range []struct {
		path   lwm2m.Path
		format uint16
		ok     bool
	}{
		{lwm2m.NewPath(5, 0), 112, true}, {lwm2m.NewPath(5, 0, 8), 112, true}, {lwm2m.NewPath(5, 0, 8), 11544, true},
		{lwm2m.NewPath(26241, 0, 0), 110, true}, // of no model
		{lwm2m.NewPath(5, 0, 3), 112, true}, {lwm2m.NewPath(5, 0, 8, 0), 112, true}, {lwm2m.NewPath(5, 0, 3), 60, true},
		{lwm2m.NewPath(5, 0, 3), 0, false}, // the empty text is no integer
	} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(test.format, "") })
			entries, err := w.server.Read(t.Context(), endpointName, test.path)
			require.Empty(t, entries)
			if test.ok {
				require.NoError(t, err, test.path)
			} else {
				require.ErrorIs(t, err, lwm2m.ErrMalformed, test.path)
			}
		})
	}
}

func TestCreate(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var options coap.Options
		options = coap.AppendString(options, coap.LocationPath, "9")
		options = coap.AppendString(options, coap.LocationPath, "4")
		d := w.foreign(`</9>`, nil, func(*coap.IncomingRequest) *coap.Response {
			return &coap.Response{Code: coap.Created, Options: options}
		})
		p, err := w.server.Create(t.Context(), endpointName, lwm2m.NewPath(9), []lwm2m.Entry{
			{Path: lwm2m.NewPath(9, 0, 3), Value: lwm2m.String("x")},
		})
		require.NoError(t, err)
		require.Equal(t, lwm2m.NewPath(9, 4), p)
		require.Equal(t, []string{"POST /9"}, d.seen())
		require.NoError(t, w.server.Delete(t.Context(), endpointName, p))
		require.Equal(t, []string{"DELETE /9/4"}, d.seen())
	})
}

// TestObservationsOfForeignDevices: a device that answers but does not observe, one that ends an
// observation, and one that notifies an observation that has ended.
func TestObservationsOfForeignDevices(t *testing.T) {
	state := lwm2m.NewPath(5, 0, 3)
	t.Run("not observing", func(t *testing.T) {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			w.foreign("</5/0>", nil, func(*coap.IncomingRequest) *coap.Response { return content(0, "0") })
			_, err := w.server.Observe(t.Context(), endpointName, state, func([]lwm2m.Entry) {})
			require.ErrorIs(t, err, lwm2m.ErrRefused)
		})
	})
	t.Run("ended by the device", func(t *testing.T) {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			observers := make(chan *coap.Observer, 1)
			w.foreign("</5/0>", nil, func(r *coap.IncomingRequest) *coap.Response {
				observers <- r.Accept()
				return content(0, "0")
			})
			var got values
			o, err := w.server.Observe(t.Context(), endpointName, state, got.add)
			require.NoError(t, err)
			observer := <-observers
			observer.Notify(content(0, "junk"), false) // is left out
			observer.Notify(content(0, "1"), false)
			synctest.Wait()
			require.Equal(t, []string{"0", "1"}, got.texts())
			observer.Notify(&coap.Response{Code: coap.NotFound}, true)
			<-o.Done()
			require.ErrorIs(t, o.Err(), lwm2m.ErrNotFound)
		})
	})
	t.Run("ended here", func(t *testing.T) {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			observers := make(chan *coap.Observer, 1)
			d := w.foreign("</5/0>", []string{"lwm2m=1.1", "Q"}, func(r *coap.IncomingRequest) *coap.Response {
				observers <- r.Accept()
				return content(0, "0")
			})
			o, err := w.server.Observe(t.Context(), endpointName, state, func([]lwm2m.Entry) {})
			require.NoError(t, err)
			time.Sleep(2 * time.Minute) // it sleeps
			require.NoError(t, o.Cancel(t.Context()))
			require.Equal(t, []string{"GET /5/0/3"}, d.seen(), "nothing is sent to one that sleeps")
			observer := <-observers
			observer.Notify(content(0, "1"), true)
			<-observer.Done() // by a Reset
		})
	})
}

// TestPushThatBreaksOff: the sink of an unfinished push is aborted, and a new push begins from the
// start.
func TestPushThatBreaksOff(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.net.SetDefault(simnetDelay(10 * time.Millisecond))
		f := &firmwareSink{}
		w.device(func(c *lwm2m.ClientConfig) { c.Objects, c.Lifetime = append(c.Objects, sinkObject{f}), time.Hour })
		image := randomBytes(50_000)
		ctx, cancel := context.WithCancel(t.Context())
		err := errOf(w.server.Do(ctx, lwm2m.Request{
			Endpoint: endpointName, Operation: lwm2m.OpWriteStream, Path: lwm2m.NewPath(5, 0, 0), Body: bytes.NewReader(image), Size: int64(len(image)),
			Progress: func(done, _ int64) {
				if done > 20_000 {
					cancel()
				}
			},
		}))
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, lwm2m.ErrDeliveryUnknown)
		time.Sleep(10 * time.Minute)
		require.EqualValues(t, 1, f.aborts.Load())
		require.NoError(t, w.server.WriteStream(t.Context(), endpointName, lwm2m.NewPath(5, 0, 0), bytes.NewReader(image), int64(len(image))))
		require.True(t, bytes.Equal(image, f.got.Bytes()))
		require.EqualValues(t, 1, f.commits.Load())
	})
}
