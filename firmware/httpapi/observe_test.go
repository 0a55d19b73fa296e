package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// observed is an open stream.
type observed struct {
	t     *testing.T
	lines *bufio.Scanner
	end   func()
	code  int
}

// pipeWriter is a ResponseWriter whose reader may be slow.
type pipeWriter struct {
	*httptest.ResponseRecorder
	w     *io.PipeWriter
	wrote chan int
	once  sync.Once
}

func (p *pipeWriter) WriteHeader(code int) { p.once.Do(func() { p.wrote <- code }) }

func (p *pipeWriter) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	return p.w.Write(b)
}
func (p *pipeWriter) Flush()                           { p.WriteHeader(http.StatusOK) }
func (p *pipeWriter) SetReadDeadline(time.Time) error  { return nil }
func (p *pipeWriter) SetWriteDeadline(time.Time) error { return nil }

// stream opens an event stream at a path below /api/v1/; header holds pairs of names and values.
func (l *lab) stream(path string, header ...string) *observed {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/"+path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	reader, writer := io.Pipe()
	w := &pipeWriter{ResponseRecorder: httptest.NewRecorder(), w: writer, wrote: make(chan int, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer writer.Close()
		l.ServeHTTP(w, r)
	}()
	return &observed{l.t, bufio.NewScanner(reader), func() {
		cancel()
		reader.Close()
		<-done
	}, <-w.wrote}
}

// next returns the next event: its name, "" for a message, and its data. It returns "over" at the
// end of the stream.
func (o *observed) next() (name, data string) {
	for o.lines.Scan() {
		field, value, _ := strings.Cut(o.lines.Text(), ": ")
		switch {
		case field == "event":
			name = value
		case field == "data":
			data = value
		case o.lines.Text() == "" && data != "":
			return name, data
		default:
			if o.lines.Text() == "" {
				name = ""
			}
		}
	}
	return "over", ""
}

// value returns the first value of the next event.
func (o *observed) value() string {
	o.t.Helper()
	name, data := o.next()
	require.Empty(o.t, name, data)
	var event struct{ Time time.Time }
	require.NoError(o.t, json.Unmarshal([]byte(data), &event))
	require.False(o.t, event.Time.After(time.Now()))
	return string(valuesOf(o.t, data)[0].Value)
}

const ours = "devices/a%2F%2Fb%20%C3%A9%3F%23%252F%201/"

// TestObserve follows a value, several paths, and the end of a registration.
func TestObserve(t *testing.T) {
	require.Equal(t, ours, "devices/"+url.PathEscape(oddName)+"/")
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		level := lwm2m.NewPath(objectAll, 0, 1)
		object := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: objectAll, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Integer(0)}}})
		client := l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		one := l.stream(ours + "resources/30000/0/1?observe=true&format=senml-cbor")
		require.Equal(t, 200, one.code)
		several := l.stream(ours + "resources?path=/30000/0/1&path=/3/0/0&observe=true")
		require.Equal(t, "0", one.value())
		require.Equal(t, "0", several.value())
		for i := 1; i < 5; i++ {
			time.Sleep(time.Minute)
			object.Set(level, lwm2m.Integer(int64(i)))
			client.Notify(level)
			require.Equal(t, fmt.Sprint(i), one.value())
			require.Equal(t, fmt.Sprint(i), several.value())
		}
		requireProblem(t, l.do("GET", "resources/30000/0/1?observe=true&wait=false", ""), 400, "invalid-query")
		requireProblem(t, l.do("GET", "resources/30000/0/1?observe=true&discover=true", ""), 400, "invalid-query")
		p := requireProblem(t, l.do("GET", "resources/30000/0/7?observe=true", ""), 404, "device-refused")
		require.Equal(t, "4.04", p.Code)
		require.Equal(t, 200, l.do("HEAD", "resources/30000/0/1?observe=true", "").StatusCode)

		// The reader of a stream goes: the observation ends on the device too.
		several.end()
		time.Sleep(time.Minute)
		several = l.stream(ours + "resources?path=/30000/0/1&observe=true")
		require.Equal(t, "4", several.value())
		client.Stop(nil) // it ends its registration
		for _, stream := range []*observed{one, several} {
			name, data := stream.next()
			require.Equal(t, "end", name)
			require.Contains(t, data, "not-registered")
			name, _ = stream.next()
			require.Equal(t, "over", name)
			stream.end()
		}
	})
}

// TestObserverThatNeverReads: it holds back neither the device nor other observers, and it gets the
// newest values once it reads.
func TestObserverThatNeverReads(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		level := lwm2m.NewPath(objectAll, 0, 1)
		object := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: objectAll, Values: []lwm2m.Entry{{Path: level, Value: lwm2m.Integer(0)}}})
		client := l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		deaf, live := l.stream(ours+"resources/30000/0/1?observe=true"), l.stream(ours+"resources/30000/0?observe=true")
		require.Equal(t, "0", live.value())
		for i := 1; i <= 100; i++ {
			time.Sleep(time.Second)
			object.Set(level, lwm2m.Integer(int64(i)))
			client.Notify(level)
			require.Equal(t, fmt.Sprint(i), live.value())
		}
		var got []string
		for len(got) == 0 || got[len(got)-1] != "100" {
			got = append(got, strings.Trim(deaf.value(), `"`)) // text without a model
		}
		require.Less(t, len(got), 25, "%v", got)
		deaf.end()
		live.end()
	})
}

// TestHandedIn hands in requests to a device that sleeps, and gets the answers later.
func TestHandedIn(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Queue: true, Lifetime: 20 * time.Minute, Objects: []lwm2m.Object{firmwareObject()}})
		time.Sleep(5 * time.Minute) // it sleeps
		all, mine, other := l.stream("events"), l.stream("events?endpoint="+url.QueryEscape(oddName)), l.stream("events?endpoint=other")
		for _, stream := range []*observed{all, mine, other} {
			name, _ := stream.next()
			require.Equal(t, "begin", name)
		}
		type handed struct {
			ID, Endpoint, Request string
			Created               time.Time
			Ended                 *time.Time
			Status                int
			Answer                json.RawMessage
		}
		begin := time.Now()
		handIn := func(method, path, body string) (handed, string) {
			t.Helper()
			a := l.do(method, path, body)
			require.Equal(t, 202, a.StatusCode, "%s", a.body)
			location, err := a.Request.URL.Parse(a.Header.Get("Location"))
			require.NoError(t, err)
			v := decode[handed](t, a)
			require.True(t, strings.HasSuffix(location.EscapedPath(), ours+"requests/"+v.ID), location)
			require.Equal(t, oddName, v.Endpoint)
			require.Zero(t, v.Status)
			require.Nil(t, v.Ended)
			return v, "requests/" + v.ID
		}
		_, read := handIn("GET", "resources//3/0/16?wait=false", "")
		v, execute := handIn("POST", "resources/5/0/2?wait=false&timeout=24h", "")
		require.Equal(t, "POST /5/0/2", v.Request)
		_, absent := handIn("PUT", "resources/3/0/99?wait=false", `{"value":1}`)
		_, late := handIn("GET", "resources?path=/3/0/3&wait=false&timeout=1s", "")
		_, withdrawn := handIn("DELETE", "resources/3/0?wait=false", "")
		l.ok(204, "DELETE", withdrawn, "")
		require.Zero(t, time.Since(begin))
		time.Sleep(2 * time.Second)
		state := func(path string) handed { t.Helper(); return decode[handed](t, l.do("GET", path, "")) }
		require.Equal(t, 504, state(late).Status)
		require.Equal(t, 409, state(withdrawn).Status)
		require.Contains(t, string(state(withdrawn).Answer), "withdrawn")
		require.Zero(t, state(read).Status)
		require.Equal(t, "null", string(state(read).Answer))
		time.Sleep(20 * time.Minute) // it wakes to update its registration
		v = state(read)
		require.Equal(t, 200, v.Status)
		require.Equal(t, `"U"`, string(valuesOf(t, string(v.Answer))[0].Value))
		require.True(t, v.Ended.After(v.Created))
		require.Equal(t, 204, state(execute).Status)
		require.Equal(t, 404, state(absent).Status)
		l.ok(204, "DELETE", absent, "") // nothing is left to end
		for _, stream := range []*observed{all, mine} {
			statuses := map[string]int{}
			for range 5 {
				name, data := stream.next()
				require.Equal(t, "answer", name)
				require.NotContains(t, data, "values", "they are only for those who may read resources")
				var event struct {
					Request, Endpoint string
					Status            int
				}
				require.NoError(t, json.Unmarshal([]byte(data), &event))
				require.Equal(t, oddName, event.Endpoint)
				statuses["requests/"+event.Request] = event.Status
			}
			require.Equal(t, map[string]int{read: 200, execute: 204, absent: 404, late: 504, withdrawn: 409}, statuses)
		}
		time.Sleep(10 * time.Minute)
		requireProblem(t, l.do("GET", read, ""), 404, "not-found")
		for _, stream := range []*observed{all, mine, other} {
			stream.end()
		}

		time.Sleep(5 * time.Minute)
		_, read = handIn("GET", "resources/3/0/16?wait=false&timeout=24h", "")
		l.net.SetDefault(simnet.Conditions{Cut: true})
		for state(read).Status == 0 {
			time.Sleep(time.Minute)
		}
		require.Equal(t, 503, state(read).Status, "its registration has ended")
	})
}

// TestHandedInIsBounded: answers are kept as long as there is room.
func TestHandedInIsBounded(t *testing.T) {
	inLab(t, nil, httpapi.Config{MaxRequests: 4}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{})
		var ids []string
		for i := range 12 {
			a := l.do("GET", "resources/3/0/16?wait=false", "")
			require.Equal(t, 202, a.StatusCode, "%d %s", i, a.body)
			ids = append(ids, decode[struct{ ID string }](t, a).ID)
			time.Sleep(time.Second)
			synctest.Wait()
		}
		for i, id := range ids {
			want := 404
			if i >= 8 {
				want = 200
			}
			require.Equal(t, want, l.do("GET", "requests/"+id, "").StatusCode, i)
		}
		a := l.do("GET", "requests/"+ids[11], "")
		require.Contains(t, string(a.body), `"status":200`)
	})
}
