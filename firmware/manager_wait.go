package firmware

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrStopped is returned by [Manager.Wait] if [Manager.Run] has ended before the update.
var ErrStopped = errors.New("firmware: manager has stopped")

// waitPoll is how often a waiter reads the store, because another process may end the update.
const waitPoll = 30 * time.Second

// Wait returns the update with the given id as soon as it has its outcome, at once if it already
// has one. Any number of callers may wait; each costs its own goroutine and some 200 bytes. If
// another process ends the update, Wait notices within 30 seconds.
//
// The error is store.ErrNotFound if there is no such update, or if it was deleted meanwhile; that
// of ctx when it ends, with the update as it is then; [ErrStopped] when Run ends before the update
// or has ended already, with the update as it is then (the next Run goes on with it); or the
// store's. Before the first Run, Wait waits for it.
func (m *Manager) Wait(ctx context.Context, id string) (Update, error) {
	for {
		m.mu.Lock()
		stopped := m.stopped
		m.mu.Unlock()
		ended, leave := m.waiters.join(id)
		u, err := m.get(ctx, id)
		if err != nil || !u.Active() {
			leave()
			return u, err
		}
		timer := time.NewTimer(waitPoll)
		select {
		case <-ended:
		case <-timer.C:
		case <-ctx.Done():
			err = ctx.Err()
		case <-stopped:
			err = ErrStopped
		}
		timer.Stop()
		leave()
		if err != nil {
			return m.atLast(ctx, u, err)
		}
	}
}

// atLast returns the update as it is when a Wait ends with err: without an error if it has ended
// meanwhile. u is returned if the store does not answer within a second.
func (m *Manager) atLast(ctx context.Context, u Update, err error) (Update, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	now, failed := m.get(ctx, u.ID)
	switch {
	case failed != nil:
		return u, err
	case !now.Active():
		return now, nil
	}
	return now, err
}

// waiters holds the updates that callers of Wait wait for.
type waiters struct {
	mu   sync.Mutex
	byID map[string]*waiter
}

// A waiter is one update; n callers wait for it.
type waiter struct {
	n     int
	ended chan struct{} // closed when the update has ended or was removed
}

// join returns a channel that is closed when the update ends after this call. The caller must call
// leave.
func (w *waiters) join(id string) (ended <-chan struct{}, leave func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	entry := w.byID[id]
	if entry == nil {
		if w.byID == nil {
			w.byID = make(map[string]*waiter)
		}
		entry = &waiter{ended: make(chan struct{})}
		w.byID[id] = entry
	}
	entry.n++
	return entry.ended, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if entry.n--; entry.n == 0 && w.byID[id] == entry {
			delete(w.byID, id)
		}
	}
}

// wake makes the callers that wait for an update read it again.
func (w *waiters) wake(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if entry := w.byID[id]; entry != nil {
		close(entry.ended)
		delete(w.byID, id)
	}
}
