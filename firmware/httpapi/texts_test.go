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
	text := texts.of(first)
	require.NoError(t, text.err)
	require.Equal(t, 128, strings.Count(string(text.text), "\n\n"))
	shorter := texts.of(first[:100])
	require.NoError(t, shorter.err)
	require.Equal(t, 100, strings.Count(string(shorter.text), "\n\n"))
	require.Zero(t, testing.AllocsPerRun(10, func() { texts.of(first).done() }), "it is kept")
	require.Same(t, text, texts.of(first))

	of := func(update, endpoint string) string {
		a := &api{}
		return string(text.selected(first, a.selector(t.Context(), &wants{update: update, endpoint: endpoint})))
	}
	some := of("u1", "ep")
	require.Equal(t, 64, strings.Count(some, `"update":"u1"`))
	require.NotContains(t, some, `"u0"`)
	require.Equal(t, string(text.text), of("", "ep"))
	require.Empty(t, of("u1", "other"))
	require.Nil(t, (&api{}).selector(t.Context(), &wants{}), "the text of all events is shared")

	for range texts.kept {
		require.NoError(t, texts.of(batch(1)).err)
	}
	again := texts.of(first)
	require.NoError(t, again.err)
	require.NotSame(t, text, again, "only so many texts are kept")
	require.Equal(t, text.text, again.text)

	memory := &text.text[0]
	text.done()
	for range texts.kept {
		require.NotSame(t, memory, &texts.of(batch(1)).text[0], "another stream still writes it")
	}
	text.done()
	require.Same(t, memory, &texts.of(batch(1)).text[0])
	var held []*streamText
	for range 2 * len(texts.kept) {
		held = append(held, texts.of(batch(1)))
	}
	for _, text := range held {
		text.done()
	}
	require.Len(t, texts.spare, maxSpare)
	texts.forget()
	require.Equal(t, [len(texts.kept)]*streamText{}, texts.kept)
	require.Empty(t, texts.spare)
}
