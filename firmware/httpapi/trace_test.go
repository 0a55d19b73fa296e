package httpapi_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
)

// aTrace is a trace as clients see it.
type aTrace struct {
	Endpoint string
	Ended    *time.Time
	Reason   string `json:"end_reason"`
	Count    int
	Messages []struct {
		N                                               int
		Direction, Kind, Transport, Code, Name, Payload string
		MessageID                                       *int `json:"message_id"`
		Options                                         []struct{ Name, Value string }
	}
}

// TestTrace begins a trace, reads it, follows it, and ends it.
func TestTrace(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		trace := func() (got aTrace) {
			require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "trace", "")), &got))
			return got
		}
		requireProblem(t, l.do("GET", "trace", ""), http.StatusNotFound, "not-found")
		for _, wrong := range []string{`{"seconds":601}`, `{"messages":5001}`, `{"bytes":8388609}`, `{"seconds":-1}`} {
			requireProblem(t, l.do("POST", "trace", wrong), http.StatusBadRequest, "invalid-field")
		}
		made := l.do("POST", "trace", `{"seconds":90,"messages":null}`)
		require.Equal(t, http.StatusCreated, made.StatusCode, "%s", made.body)
		require.Equal(t, "trace", made.Header.Get("Location"))
		requireProblem(t, l.do("POST", "trace", `{}`), http.StatusConflict, "conflict")
		require.Empty(t, trace().Messages, "nothing has come yet")
		l.device(lwm2m.ClientConfig{})
		l.ok(200, "GET", "resources/1/0/1", "")
		got := trace()
		require.Equal(t, oddName, got.Endpoint)
		require.Nil(t, got.Ended)
		require.Len(t, got.Messages, got.Count)
		first := got.Messages[0]
		require.Equal(t, []string{"in", "message", "coap", "0.02", "POST"}, []string{first.Direction, first.Kind, first.Transport, first.Code, first.Name})
		require.NotNil(t, first.MessageID)
		last := got.Messages[got.Count-1]
		require.Equal(t, "Content", last.Name)
		require.Equal(t, "300", last.Payload)
		var rest aTrace
		require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "trace?after=1", "")), &rest))
		require.Equal(t, 2, rest.Messages[0].N)
		require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "trace?after=end", "")), &rest))
		requireProblem(t, l.do("GET", "trace?after=1000", ""), http.StatusConflict, "position")

		began := time.Now()
		stream := l.stream(ours+"trace", "Accept", "text/event-stream") // not read from here on
		time.Sleep(20 * time.Second)
		l.ok(200, "GET", "resources/1/0/1", "")
		stream.end()
		stream = l.stream(ours+"trace", "Accept", "text/event-stream")
		n := 0
		for name, data := stream.next(); ; name, data = stream.next() {
			if name == "end" {
				require.NoError(t, json.Unmarshal([]byte(data), &got))
				break
			}
			require.Empty(t, name)
			n++
		}
		stream.end()
		require.Equal(t, got.Count, n)
		require.Equal(t, "time", got.Reason)
		require.LessOrEqual(t, time.Since(began), 90*time.Second)

		l.ok(201, "POST", "trace", `{}`)
		l.ok(204, "DELETE", "trace", "")
		l.ok(204, "DELETE", "trace", "")
		require.Equal(t, "stopped", trace().Reason)
		time.Sleep(11 * time.Minute)
		requireProblem(t, l.do("GET", "trace", ""), http.StatusNotFound, "not-found")
		for _, name := range []string{"1", "2", "3", "4"} {
			_, err := l.mgr.Trace(name, lwm2m.TraceConfig{})
			require.NoError(t, err)
		}
		requireProblem(t, l.do("POST", "trace", `{}`), http.StatusServiceUnavailable, "unavailable")
	})
}
