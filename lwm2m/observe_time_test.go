package lwm2m_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// TestEvaluationPeriods changes a value without Notify: the client evaluates it as often as epmax
// demands, and no more often than epmin and pmin allow.
func TestEvaluationPeriods(t *testing.T) {
	for _, test := range []struct {
		name       string
		attributes []string
		want       []time.Duration // of the notifications in ten minutes, of a value that changes each 10 s
	}{
		{"none", nil, nil},
		{"epmax 0", []string{"epmax=0"}, nil},
		{"epmax", []string{"epmax=200"}, []time.Duration{200e9, 400e9, 600e9}},
		{"epmax below pmin", []string{"epmax=100", "pmin=250"}, []time.Duration{250e9, 500e9}},
		{"pmax", []string{"pmax=300"}, []time.Duration{300e9, 600e9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inSensorWorld(t, func(t *testing.T, w *world, s *sensor, _ func(float64)) {
				attributes, err := lwm2m.ParseAttributes(test.attributes...)
				require.NoError(t, err)
				if test.attributes != nil {
					require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, sensorValue, attributes))
				}
				var got values
				_, err = w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
				require.NoError(t, err)
				got.take()
				for i := range 60 {
					s.set(float64(i + 1))
					time.Sleep(10 * time.Second)
				}
				_, at := got.take()
				require.Equal(t, test.want, at)
			})
		})
	}
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		attributes, err := lwm2m.ParseAttributes("epmin=30")
		require.NoError(t, err)
		require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, sensorValue, attributes))
		var got values
		_, err = w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
		require.NoError(t, err)
		got.take()
		for i := range 20 {
			change(float64(i + 1)) // 1 s apart
		}
		time.Sleep(time.Minute)
		require.Equal(t, []string{"20"}, got.texts())
	})
}

// TestNotificationsAreConfirmed: among notifications without acknowledgement one a day is
// confirmable (RFC 7641, section 4.5).
func TestNotificationsAreConfirmed(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, _ func(float64)) {
		attributes, err := lwm2m.ParseAttributes("pmax=3600", "con=0")
		require.NoError(t, err)
		require.NoError(t, w.server.WriteAttributes(t.Context(), endpointName, sensorValue, attributes))
		var got values
		_, err = w.server.Observe(t.Context(), endpointName, sensorValue, got.add)
		require.NoError(t, err)
		synctest.Wait()
		var all int
		var confirmed []time.Duration
		start := time.Now()
		w.net.Tap(func(p simnet.Packet) {
			if p.From.Addr() != deviceIP || p.Data[1] != 0x45 { // 2.05
				return
			}
			all++
			if p.Data[0]>>4&3 == 0 {
				confirmed = append(confirmed, time.Since(start).Round(time.Hour))
			}
		})
		time.Sleep(73 * time.Hour)
		synctest.Wait()
		require.Equal(t, 73, all)
		require.Equal(t, []time.Duration{24 * time.Hour, 48 * time.Hour, 72 * time.Hour}, confirmed)
	})
}

// TestCompositeIsBounded reads as many paths at once as a client accepts, and one more.
func TestCompositeIsBounded(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, _ func(float64)) {
		paths := make([]lwm2m.Path, 256)
		for i := range paths {
			paths[i] = lwm2m.NewPath(3303, 0, 6000+uint16(i))
		}
		entries, err := w.server.ReadComposite(t.Context(), endpointName, paths)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		_, err = w.server.ReadComposite(t.Context(), endpointName, append(paths, sensorValue))
		require.ErrorIs(t, err, lwm2m.ErrBadRequest)
	})
}

// TestCBORNumbers encodes the numbers at which the length of the encoding changes (RFC 8949,
// section 4.2.1).
func TestCBORNumbers(t *testing.T) {
	for value, want := range map[uint64]string{
		23: "\x17", 24: "\x18\x18", 255: "\x18\xff", 256: "\x19\x01\x00", 65535: "\x19\xff\xff", 65536: "\x1a\x00\x01\x00\x00",
		1<<32 - 1: "\x1a\xff\xff\xff\xff", 1 << 32: "\x1b\x00\x00\x00\x01\x00\x00\x00\x00",
	} {
		path := lwm2m.NewPath(3303, 0, 5700)
		got, err := lwm2m.AppendPayload(nil, lwm2m.FormatCBOR, path, []lwm2m.Entry{{Path: path, Value: lwm2m.Unsigned(value)}}, nil)
		require.NoError(t, err)
		require.Equal(t, want, string(got), value)
	}
}

// TestObserveWithAttributes observes with attributes in the request (LwM2M 1.2).
func TestObserveWithAttributes(t *testing.T) {
	good := func(*coap.IncomingRequest) *coap.Response { return nil }
	withPicky(t, good, func(c *lwm2m.ClientConfig) { c.Version = "1.2" }, func(t *testing.T, p *picky, _ *lwm2m.Client) {
		observe := func(queries ...string) (coap.Code, *atomic.Int32) {
			var n atomic.Int32
			_, resp, err := p.endpoint.Observe(t.Context(), p.device(), &coap.Request{
				Code: coap.GET, Path: []string{"3", "0", "3"}, Queries: queries,
			}, func(*coap.Response) { n.Add(1) })
			require.NoError(t, err)
			return resp.Code, &n
		}
		code, told := observe("pmax=60")
		require.Equal(t, coap.Content, code)
		time.Sleep(5*time.Minute + time.Second)
		require.EqualValues(t, 5, told.Load())
		for _, queries := range [][]string{{"pmax=x"}, {"pmin=10", "pmax=5"}} {
			code, _ = observe(queries...)
			require.Equal(t, coap.BadRequest, code, queries)
		}
	})
}

// TestObserverThatBlocks: the function of an observation blocks while 21 values arrive. Afterwards
// it gets the last sixteen.
func TestObserverThatBlocks(t *testing.T) {
	inSensorWorld(t, func(t *testing.T, w *world, _ *sensor, change func(float64)) {
		var got values
		release := make(chan struct{})
		_, err := w.server.Observe(t.Context(), endpointName, sensorValue, func(entries []lwm2m.Entry) {
			<-release
			got.add(entries)
		})
		require.NoError(t, err)
		want := []string{"0"}
		for i := range 21 {
			change(float64(i + 1))
			if i >= 5 {
				want = append(want, strconv.Itoa(i+1))
			}
		}
		close(release)
		require.Equal(t, want, got.texts())
	})
}

// TestPartialWriteFindsAFormat writes several resources of a device of LwM2M 1.0, which supports
// TLV.
func TestPartialWriteFindsAFormat(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var formats []uint16
		w.foreign("</1/0>", []string{"lwm2m=1.0"}, func(r *coap.IncomingRequest) *coap.Response {
			f, _ := r.ContentFormat().Get()
			formats = append(formats, f)
			return &coap.Response{Code: coap.Changed}
		})
		require.NoError(t, w.server.WritePartial(t.Context(), endpointName, lwm2m.NewPath(1, 0), []lwm2m.Entry{
			{Path: lwm2m.NewPath(1, 0, 1), Value: lwm2m.Integer(60)}, {Path: lwm2m.NewPath(1, 0, 2), Value: lwm2m.Integer(1)},
		}))
		synctest.Wait()
		require.Equal(t, []uint16{uint16(lwm2m.FormatTLV)}, formats)
	})
}
