package httpapi

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/store"
)

// written has one rollout, whose journal grows, and counts what it is asked.
type written struct {
	rollouts
	mu          sync.Mutex
	lines, gets int
	deleted     bool
}

func (w *written) Get(_ context.Context, id string) (r rollout.Rollout, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gets++
	if w.deleted {
		return r, store.ErrNotFound
	}
	r.ID, r.Lines = id, uint64(w.lines)
	return r, nil
}

func (w *written) Events(_ context.Context, q store.RolloutEventQuery) iter.Seq2[rollout.Event, error] {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := uint64(w.lines)
	return func(yield func(rollout.Event, error) bool) {
		for seq := q.After + 1; seq <= min(last, q.After+uint64(q.Limit)); seq++ {
			var err error
			if seq == 7 {
				err = &store.DamagedError{}
			}
			if !yield(rollout.Event{Rollout: q.Rollout, Seq: seq, Name: "tripped"}, err) {
				return
			}
		}
	}
}

func (w *written) grow(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines += n
}

// TestRolloutJournalIsReadOnce: twenty followers of a rollout, from different positions, get every
// line once, and each new line is read and encoded once. A damaged line is a gap.
func TestRolloutJournalIsReadOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &written{lines: 5}
		a := newAPI(&busy{}, nil, AllowAll, Config{MaxStreams: 1000})
		a.rollouts = w
		var all sync.WaitGroup
		var flows []flow
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		follow := func(after int) {
			f := flow{httptest.NewRecorder()}
			flows = append(flows, f)
			r := httptest.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprint("/api/v1/rollouts/r/events?after=", after), nil)
			r.Header.Set("Accept", "text/event-stream")
			r.RemoteAddr = fmt.Sprintf("10.0.0.%d:1", len(flows))
			all.Go(func() { Recorded(t, a).ServeHTTP(f, r) })
		}
		for i := range 20 {
			follow(i % 6)
		}
		time.Sleep(10 * lookPause)
		synctest.Wait()
		w.mu.Lock()
		gets := w.gets
		w.mu.Unlock()
		require.LessOrEqual(t, gets, 20*2+11, "each follower when it begins, and the journal once a second")
		before := encoded.Load()
		w.grow(495)
		time.Sleep(2 * lookPause)
		synctest.Wait()
		require.EqualValues(t, 495, encoded.Load()-before)
		follow(0)
		follow(490)
		time.Sleep(2 * lookPause)
		w.mu.Lock()
		w.deleted = true
		w.mu.Unlock()
		all.Wait()
		require.Empty(t, a.journals.by)
		require.Len(t, flows, 22)
		for i, f := range flows {
			after := []int{i % 6, 0, 490}[max(0, i-19)]
			text := f.Body.String()
			for seq := after + 1; seq <= 500; seq++ {
				require.Equal(t, 1, strings.Count(text, fmt.Sprintf("id: %d\n", seq)), "%d: line %d", i, seq)
			}
			require.Equal(t, after < 7, strings.Contains(text, "event: gap\ndata: {\"after\": 6, \"deleted\": 7}\n\n"))
			require.Contains(t, text, "event: end\n")
		}
	})
}
