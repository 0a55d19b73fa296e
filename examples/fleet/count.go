package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/store"
)

// countingStore counts commits.
type countingStore struct {
	store.Store
	commits, changes, failed atomic.Uint64
}

// Commit implements store.Store.
func (s *countingStore) Commit(ctx context.Context, changes ...store.Change) (uint64, error) {
	s.commits.Add(1)
	s.changes.Add(uint64(len(changes)))
	seq, err := s.Store.Commit(ctx, changes...)
	if err != nil {
		s.failed.Add(1)
	}
	return seq, err
}

// countingHandler counts requests.
func countingHandler(next http.Handler, n *atomic.Uint64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		next.ServeHTTP(w, r)
	})
}

// actionCount counts the requests of one kind that a manager made to devices.
type actionCount struct {
	Done, Failed int
	Time         time.Duration // total duration
}

// actions counts the requests that a manager made to devices, by kind.
type actions struct {
	mu     sync.Mutex
	counts map[string]actionCount
}

// startKey is the context key for the start time of an action.
type startKey struct{}

// start implements firmware.Hooks.ActionStart.
func (a *actions) start(ctx context.Context, _ firmware.Update, _ firmware.ActionKind) context.Context {
	return context.WithValue(ctx, startKey{}, time.Now())
}

// end implements firmware.Hooks.ActionEnd.
func (a *actions) end(ctx context.Context, _ firmware.Update, kind firmware.ActionKind, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c := a.counts[string(kind)]
	c.Done++
	if err != nil {
		c.Failed++
	}
	if began, ok := ctx.Value(startKey{}).(time.Time); ok {
		c.Time += time.Since(began)
	}
	a.counts[string(kind)] = c
}

// take returns the counts, and resets them.
func (a *actions) take() map[string]actionCount {
	a.mu.Lock()
	defer a.mu.Unlock()
	counts := a.counts
	a.counts = map[string]actionCount{}
	return counts
}
