package httpapi

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// damagedJournal is a manager whose journal has a damaged line between two others.
type damagedJournal struct{ manager }

func (damagedJournal) Events(context.Context, uint64) iter.Seq2[firmware.Event, error] {
	return func(yield func(firmware.Event, error) bool) {
		damaged := &store.DamagedError{Kind: store.KindEvent, Key: "2", Err: errors.New("bits have flipped")}
		_ = yield(firmware.Event{Event: store.Event{Seq: 1}}, nil) &&
			yield(firmware.Event{Event: store.Event{Seq: 2}}, damaged) &&
			yield(firmware.Event{Event: store.Event{Seq: 3}}, nil)
	}
}

func TestStreamGoesOnAfterDamage(t *testing.T) {
	var logged bytes.Buffer
	a := newAPI(damagedJournal{}, nil, AllowAll, Options{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/api/events", nil))
	require.Contains(t, w.Body.String(), "id: 1\n")
	require.Contains(t, w.Body.String(), "id: 3\n")
	require.NotContains(t, w.Body.String(), "id: 2\n")
	require.Contains(t, logged.String(), "bits have flipped")
}
