package httpapi

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWantsStream: a client gets a stream only if it names the type, and does not prefer JSON.
func TestWantsStream(t *testing.T) {
	for want, lists := range map[bool][][]string{
		true: {
			{"text/event-stream"}, {"Text/Event-Stream; charset=utf-8"}, {"text/event-stream;q=0.001"}, {"text/html,", "text/event-stream"},
			{"application/json, text/event-stream"}, {"text/event-stream, */*;q=0.1"}, {"*/*, application/json;q=0.2, text/event-stream;q=0.3"},
		},
		false: {
			nil, {""}, {"*/*"}, {"text/*"}, {"text/event-streams"}, {"x/text/event-stream"}, {"text/event-stream;q=0"}, {"text/event-stream; q=0.000"},
			{"text/event-stream;q=x"}, {"text/event-stream;q=-1"}, {"text/event-stream;q=NaN"},
			{"application/json, text/event-stream;q=0.9"}, {"text/event-stream;q=0.5, application/*"},
		},
	} {
		for _, list := range lists {
			require.Equal(t, want, wantsStream(&http.Request{Header: http.Header{"Accept": list}}), "%q", list)
		}
	}
}
