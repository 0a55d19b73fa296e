package firmware_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// TestEventJSON: an event has the JSON of the HTTP API, which compatibility.md promises to keep.
func TestEventJSON(t *testing.T) {
	line := store.Event{
		Seq: 17, Update: "01JE", Endpoint: "sensor-1", Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC),
		Name: firmware.EventFailed, Detail: "integrity_failed", Phase: firmware.PhaseEnded,
		Result: firmware.ResultIntegrityFailed, Outcome: firmware.OutcomeFailed,
	}
	var got []byte
	for _, e := range []firmware.Event{
		{Event: line, Progress: firmware.Progress{Bytes: 4096, Total: 4096}},
		{Event: store.Event{Name: firmware.EventCreated, State: firmware.StateUpdating, Result: 77}},
	} {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		got = append(append(got, text...), '\n')
	}
	want, err := os.ReadFile("testdata/events.json")
	require.NoError(t, err)
	require.Equal(t, string(want), string(got))
}

// TestEventJSONEscapes: text of any bytes has the JSON of package json.
func TestEventJSONEscapes(t *testing.T) {
	for _, text := range []string{"", "plain text: 5/0/3 ~", `"quoted" \ and <html> & more`, "a\x00b\x1f\x7f", "Gerät\u2028\u2029", "\xff\xc3(", "\t\n"} {
		e := firmware.Event{Event: store.Event{Update: text, Endpoint: text, Name: text, Detail: text, Phase: firmware.Phase(text), Outcome: firmware.Outcome(text)}}
		got, err := e.MarshalJSON()
		require.NoError(t, err)
		want, err := json.Marshal(text)
		require.NoError(t, err)
		require.Equal(t, 6, strings.Count(strings.ReplaceAll(string(got), "}", ","), ":"+string(want)+","), "%s", got)
		require.True(t, json.Valid(got))
	}
	_, err := json.Marshal(firmware.Event{Event: store.Event{Time: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}})
	require.Error(t, err)
}
