package httpapi_test

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
)

// countedObject counts what servers read of it.
type countedObject struct {
	*lwm2m.ValueObject
	reads atomic.Int64
}

func (o *countedObject) Read(ctx context.Context, path lwm2m.Path) ([]lwm2m.Entry, error) {
	o.reads.Add(1)
	return o.ValueObject.Read(ctx, path)
}

// TestObserversShare: several streams of a path have one observation, as a device may keep no more.
// It begins with the first and ends with the last of them.
func TestObserversShare(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		level := lwm2m.NewPath(objectAll, 0, 1)
		object := &countedObject{ValueObject: lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: objectAll, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Integer(0)}},
		})}
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		const path = ours + "resources/30000/0/1?observe=true"
		set := func(n int64) (reads int64) {
			time.Sleep(time.Second)
			object.reads.Store(0)
			object.Set(level, lwm2m.Integer(n))
			time.Sleep(time.Second)
			return object.reads.Load()
		}
		first := l.stream(path + "&format=senml-cbor")
		require.Equal(t, "0", first.value())
		once := set(1)
		require.Equal(t, "1", first.value())

		second := l.stream(path + "&timeout=1m")
		require.Equal(t, "1", second.value(), "the present value")
		require.Equal(t, once, object.reads.Load(), "the device was not asked again")
		require.Equal(t, once, set(2))
		require.Equal(t, "2", first.value())
		require.Equal(t, "2", second.value())

		first.end()
		require.Equal(t, once, set(3))
		require.Equal(t, "3", second.value())
		second.end()
		require.Zero(t, set(4), "the observation has ended on the device too")
		third := l.stream(path)
		require.Equal(t, `"4"`, third.value(), "text, as the device has it without a format")
		third.end()
	})
}

// TestObserversOfASleeper: streams that wait for the same device share the request, whichever
// leaves first, and the device gets none once all have left.
func TestObserversOfASleeper(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		level := lwm2m.NewPath(objectAll, 0, 1)
		object := &countedObject{ValueObject: lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: objectAll, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Integer(7)}},
		})}
		l.device(lwm2m.ClientConfig{Queue: true, Lifetime: 20 * time.Minute, Objects: []lwm2m.Object{object}})
		time.Sleep(5 * time.Minute) // it sleeps
		const path = "/api/v1/" + ours + "resources/30000/0/1?observe=true&timeout="
		open := func(timeout string) (w *httptest.ResponseRecorder, end func()) {
			ctx, cancel := context.WithCancel(t.Context())
			w = httptest.NewRecorder()
			done := make(chan struct{})
			go func() {
				defer close(done)
				l.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", path+timeout, nil))
			}()
			synctest.Wait()
			return w, func() { cancel(); <-done }
		}
		_, leave := open("10m")
		short, end := open("30s")
		time.Sleep(time.Minute)
		end()
		require.Equal(t, 504, short.Code)
		leave()
		var streams []*httptest.ResponseRecorder
		var ends []func()
		time.Sleep(6 * time.Minute)
		_, leave = open("10m")
		for range 3 {
			w, end := open("10m")
			streams, ends = append(streams, w), append(ends, end)
		}
		leave() // the one whose request it was
		object.reads.Store(0)
		time.Sleep(9 * time.Minute) // it wakes to update its registration
		for i, end := range ends {
			end()
			require.Equal(t, 200, streams[i].Code)
			require.Contains(t, streams[i].Body.String(), `"7"`)
		}
		require.EqualValues(t, 1, object.reads.Load())
		_, leave = open("10m")
		leave()
		object.reads.Store(0)
		time.Sleep(time.Hour)
		require.Zero(t, object.reads.Load(), "nothing waits")
	})
}
