package firmware

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/otago-iot/otago/store"
)

// ErrMissed is the error of [Manager.Lines] when there may be lines that it did not yield, because
// the store did not say whether it took them, or the loop was slow. The program reads what it needs
// to know. The sequence goes on.
var ErrMissed = errors.New("firmware: lines of the journal were missed")

// Lines yields the journal lines that this Manager stores from the call on, those of one commit at
// a time, until ctx ends. It costs less than [Manager.EventBatches], and has no pauses: it is for a
// program in the same process that looks for few of the lines. Each line is durable, and has no
// Seq. Lines of one update keep their order. The caller must not change the slices, and ranges over
// the sequence once. The error is [ErrMissed] in a pair of its own.
func (m *Manager) Lines(ctx context.Context) iter.Seq2[[]store.Event, error] {
	w := &watcher{news: make(chan struct{}, 1)}
	m.watchers.add(w)
	leave := m.saver.follow()
	stop := sync.OnceFunc(func() {
		m.watchers.remove(w)
		leave()
	})
	context.AfterFunc(ctx, stop)
	return func(yield func([]store.Event, error) bool) {
		defer stop()
		var commits [][]store.Event
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.news:
			}
			var missed bool
			if commits, missed = w.take(commits); missed && !yield(nil, ErrMissed) {
				return
			}
			for _, lines := range commits {
				if !yield(lines, nil) {
					return
				}
			}
		}
	}
}

// A watcher has the lines that a caller of Lines has not got yet.
type watcher struct {
	news chan struct{} // holds one if there are such

	mu      sync.Mutex
	commits [][]store.Event
	lines   int // of commits
	missed  bool
}

// add adds the lines of a commit, or none if lines may be missing.
func (w *watcher) add(lines []store.Event) {
	w.mu.Lock()
	if w.lines += len(lines); len(lines) == 0 || w.lines > maxAdded {
		w.commits, w.lines, w.missed = nil, 0, true
	} else {
		w.commits = append(w.commits, lines)
	}
	w.mu.Unlock()
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// take returns what has come, and uses the memory of what it returned before.
func (w *watcher) take(before [][]store.Event) (commits [][]store.Event, missed bool) {
	clear(before)
	w.mu.Lock()
	defer w.mu.Unlock()
	commits, missed = w.commits, w.missed
	w.commits, w.lines, w.missed = before[:0], 0, false
	return commits, missed
}

// watchers are the callers of Lines.
type watchers struct {
	mu   sync.Mutex
	list []*watcher
}

func (l *watchers) add(w *watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, w)
}

func (l *watchers) remove(w *watcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, have := range l.list {
		if have == w {
			l.list = append(l.list[:i:i], l.list[i+1:]...)
			return
		}
	}
}

// committed passes the lines of a commit on, or that it is not known whether the store has them.
func (l *watchers) committed(lines []store.Event, err error) {
	if len(lines) == 0 || err != nil && (refused(err) || errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrDuplicate)) {
		return
	}
	if err != nil {
		lines = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.list {
		w.add(lines)
	}
}

// missed says that there may be lines that no commit has reported.
func (l *watchers) missed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.list {
		w.add(nil)
	}
}
