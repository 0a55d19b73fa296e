package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// TestTexts: the text of a batch is made once for all streams, and not kept when the last one has
// ended.
func TestTexts(t *testing.T) {
	batch := func(n int) []firmware.Event {
		events := make([]firmware.Event, n)
		for i := range events {
			events[i] = firmware.Event{Event: store.Event{Seq: uint64(i + 1), Update: fmt.Sprint("u", i%2), Endpoint: "ep", Name: "n"}}
		}
		return events
	}
	var texts texts
	first := batch(128)
	text, err := texts.of(first)
	require.NoError(t, err)
	require.Equal(t, 128, strings.Count(string(text), "\n\n"))
	shorter, err := texts.of(first[:100])
	require.NoError(t, err)
	require.Equal(t, 100, strings.Count(string(shorter), "\n\n"))
	require.Zero(t, testing.AllocsPerRun(10, func() { _, _ = texts.of(first) }), "it is kept")
	again, err := texts.of(first)
	require.NoError(t, err)
	require.Same(t, &text[0], &again[0])

	some, err := appendEvents(nil, first, selector("u1", "ep"))
	require.NoError(t, err)
	require.Equal(t, 64, strings.Count(string(some), `"update":"u1"`))
	require.NotContains(t, string(some), `"u0"`)
	none, err := appendEvents(nil, first, selector("u1", "other"))
	require.NoError(t, err)
	require.Empty(t, none)
	require.Nil(t, selector("", ""), "the text of all events is shared")

	for range texts.kept {
		_, err := texts.of(batch(1))
		require.NoError(t, err)
	}
	again, err = texts.of(first)
	require.NoError(t, err)
	require.NotSame(t, &text[0], &again[0], "only so many texts are kept")
	require.Equal(t, text, again)
	texts.forget()
	require.Equal(t, [len(texts.kept)]*streamText{}, texts.kept)
}
