package firmware

import (
	"context"
	"slices"
	"time"

	"github.com/otago-iot/otago/store"
)

// A save is one run's part of a commit. The run makes no step meanwhile.
type save struct {
	run    *run
	update Update
	record bool          // update differs from the stored record
	lines  []store.Event // journal lines to append
	facts  *facts        // locked; nil: they are not part of it
}

// beginSave returns what a run has to save, and keeps the run from making steps. It returns false
// if the run makes one now, or has nothing to save.
func (r *run) beginSave() (save, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy || r.stopped {
		return save{}, false
	}
	s := r.unsavedPart()
	if s.facts != nil {
		select {
		case <-s.facts.free:
		default:
			s.facts = nil // another caller changes the device; the facts are saved later
		}
	}
	r.busy = true
	return s, true
}

// unsavedPart returns what the run has to save. r.mu is held; the facts are not locked.
func (r *run) unsavedPart() save {
	return save{run: r, update: r.u, record: r.soft, lines: r.lines, facts: r.facts}
}

// unsavedSteps reports whether the run has soft steps to save.
func (r *run) unsavedSteps() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.stopped && r.soft
}

// changes returns the changes of a save, without its journal lines.
func (s save) changes() (changes []store.Change) {
	if s.record {
		changes = append(changes, store.ReplaceUpdate{Update: s.update})
	}
	if s.facts != nil {
		changes = append(changes, s.facts.changes(s.run.target)...)
	}
	return changes
}

// end records that a save has succeeded or failed. r.mu is not held.
func (s save) end(ok bool) {
	if s.facts != nil {
		s.run.factsStored(s.facts, ok)
		s.facts.unlock()
	}
	if !ok || !s.record {
		return
	}
	s.run.mu.Lock()
	defer s.run.mu.Unlock()
	s.run.u.Revision++
	s.run.soft, s.run.lines = false, nil
}

// save commits a batch. If the store refuses it, each run saves its part alone.
func (m *Manager) save(ctx context.Context, batch []save) {
	err := m.commitSaves(ctx, batch)
	if err != nil {
		m.log.Warn("store refused a commit of several updates; each is stored alone", "updates", len(batch), "error", err)
	}
	for _, s := range batch {
		s.end(err == nil)
		r := s.run
		r.mu.Lock()
		if err != nil && !r.stopped {
			r.inbox.first(item{save: true, tried: true})
		}
		if len(r.inbox) == 0 || r.stopped || !m.steps.Run(r.task) {
			r.busy = false
		}
		r.mu.Unlock()
	}
}

// commitSaves commits a batch.
func (m *Manager) commitSaves(ctx context.Context, batch []save) error {
	changes := make([]store.Change, 0, len(batch)+1)
	var lines []store.Event
	for _, s := range batch {
		changes = append(changes, s.changes()...)
		lines = append(lines, s.lines...)
	}
	if len(lines) > 0 {
		slices.SortStableFunc(lines, func(a, b store.Event) int { return a.Time.Compare(b.Time) })
		changes = append(changes, store.AppendEvents{Events: lines})
	}
	if len(changes) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	_, err := m.commit(ctx, changes...)
	return err
}

// saveLast saves the soft steps of runs that have stopped. What the store refuses is lost, as after
// a crash.
func (m *Manager) saveLast(runs map[string]*run) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	var batch []save
	commit := func() {
		if len(batch) == 0 {
			return
		}
		err := m.commitSaves(ctx, batch)
		if err != nil {
			m.log.Warn("store refused the last steps of some updates; the next Run reads their devices again", "updates", len(batch), "error", err)
		}
		for _, s := range batch {
			s.end(err == nil) // a request that waits for the facts goes on
		}
		batch = nil
	}
	for _, r := range runs {
		m.saver.remove(r)
		r.mu.Lock()
		s := r.unsavedPart()
		r.mu.Unlock()
		if s.facts != nil {
			select {
			case <-s.facts.free:
			default:
				s.facts = nil
			}
		}
		if len(s.changes()) == 0 {
			if s.facts != nil {
				s.facts.unlock()
			}
			continue
		}
		if batch = append(batch, s); len(batch) == saveBatch {
			commit()
		}
	}
	commit()
}

// saveNow stores what the run has to save, in its turn among the steps.
func (r *run) saveNow(ctx context.Context, l *item) {
	r.mu.Lock()
	s := r.unsavedPart()
	r.mu.Unlock()
	if s.record {
		if !r.commit(ctx, &s.update, l, s.lines, true) {
			return
		}
		r.keep(&s.update, nil, false)
	}
	l.answer(nil, nil)
}

// flush saves the soft steps of a run, and waits a second at most.
func (r *run) flush(ctx context.Context) {
	done := make(chan reply, 1)
	if !r.unsavedSteps() || !r.deliver(item{save: true, reply: done}) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
