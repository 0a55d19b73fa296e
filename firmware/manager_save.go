package firmware

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/store"
)

// Times of soft steps, which a crash may lose; see fsm.Actions.
const (
	// saveLate is when the save of a soft step is due, so that it is stored within 30 s. The save
	// takes the steps with it that are due within saveSlack.
	saveLate  = 25 * time.Second
	saveSlack = 10 * time.Second
	// saveSoon is when it is due for somebody who reads along, so that it is stored within 1 s.
	saveSoon = 800 * time.Millisecond
	// readerStays is how long a call of Get or Journal counts as reading along.
	readerStays = 30 * time.Second
	// saveBatch is how many updates one commit saves.
	saveBatch = 256
	// maxUnsaved limits the journal lines of an update that are not stored. A step that makes more
	// is stored before the manager acts on it.
	maxUnsaved = 32
)

// A saver stores the soft steps of all runs, many in one commit. It costs nothing while there are
// none.
type saver struct {
	m *Manager

	mu        sync.Mutex
	late      list.List // of *run with something to save, the longest first
	soon      list.List // of those that somebody reads along
	followers int       // of the events of all updates
	timer     *time.Timer
	saving    bool
}

// A saving is what a saver knows of a run. Its mutex guards it.
type saving struct {
	element *list.Element // in saver.late or saver.soon; nil: nothing to save
	soon    bool          // it is in soon
	lines   bool          // there are journal lines to save
	since   time.Duration // by the manager's clock
	read    time.Duration // until then somebody reads along
}

// add records that a run has something to save, for example journal lines.
func (s *saver) add(r *run, lines bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &r.saving
	w.lines = w.lines || lines
	if w.element == nil {
		w.since, w.soon = s.now(), false
		w.element = s.late.PushBack(r)
	}
	s.hurry(r)
	s.schedule()
}

// hurry makes a run due soon if it has journal lines and somebody reads along.
func (s *saver) hurry(r *run) {
	w := &r.saving
	if w.element == nil || w.soon || !w.lines || s.followers == 0 && s.now() >= w.read {
		return
	}
	s.late.Remove(w.element)
	w.since, w.soon = s.now(), true
	w.element = s.soon.PushBack(r)
}

// remove records that a run has nothing to save.
func (s *saver) remove(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(r)
}

// take removes a run from the lists. s.mu is held.
func (s *saver) take(r *run) {
	w := &r.saving
	switch {
	case w.element == nil:
		return
	case w.soon:
		s.soon.Remove(w.element)
	default:
		s.late.Remove(w.element)
	}
	w.element, w.lines = nil, false
}

// reads records that somebody reads an update.
func (s *saver) reads(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.saving.read = s.now() + readerStays
	s.hurry(r)
	s.schedule()
}

// follow records that somebody follows the events of all updates, until the returned function is
// called.
func (s *saver) follow() (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers++; s.followers == 1 {
		for e := s.late.Front(); e != nil; {
			next := e.Next()
			s.hurry(e.Value.(*run))
			e = next
		}
		s.schedule()
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.followers--
	}
}

func (s *saver) now() time.Duration { return time.Since(s.m.clock.start) }

// schedule sets the timer for the first run that is due. s.mu is held.
func (s *saver) schedule() {
	var due time.Duration
	switch soon, late := s.soon.Front(), s.late.Front(); {
	case s.saving, soon == nil && late == nil:
		return
	case soon == nil:
		due = late.Value.(*run).saving.since + saveLate
	case late == nil:
		due = soon.Value.(*run).saving.since + saveSoon
	default:
		due = min(soon.Value.(*run).saving.since+saveSoon, late.Value.(*run).saving.since+saveLate)
	}
	if wait := max(due-s.now(), 0); s.timer == nil {
		s.timer = time.AfterFunc(wait, s.due)
	} else {
		s.timer.Reset(wait)
	}
}

// due saves the runs that are due. After Run has ended it does nothing: Run saves what is left.
func (s *saver) due() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.saving || s.soon.Len() == 0 && s.late.Len() == 0 {
		return
	}
	s.saving = s.m.spawn(s.saveDue)
}

// saveDue saves, batch by batch, the runs that are due.
func (s *saver) saveDue(ctx context.Context) {
	for ctx.Err() == nil {
		batch := s.next()
		if len(batch) == 0 {
			break
		}
		s.m.save(ctx, batch)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	s.schedule()
}

// next returns saves of runs that are due. A run that makes a step is due again soon.
func (s *saver) next() (batch []save) {
	var due, busy []*run
	s.mu.Lock()
	until := s.now()
	for e := s.soon.Front(); e != nil && len(due) < saveBatch; e = s.soon.Front() {
		r := e.Value.(*run)
		if r.saving.since > until-saveSoon/2 {
			break
		}
		s.take(r)
		due = append(due, r)
	}
	for e := s.late.Front(); e != nil && len(due) < saveBatch; e = s.late.Front() {
		r := e.Value.(*run)
		if r.saving.since > until-saveLate+saveSlack {
			break
		}
		s.take(r)
		due = append(due, r)
	}
	s.mu.Unlock()
	for _, r := range due {
		if one, ok := r.beginSave(); ok {
			batch = append(batch, one)
		} else if r.unsavedSteps() {
			busy = append(busy, r)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range busy {
		if w := &r.saving; w.element == nil {
			w.since, w.soon, w.lines = s.now(), true, true
			w.element = s.soon.PushBack(r)
		}
	}
	return batch
}

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

// commitSaves commits a batch, and wakes the readers of events.
func (m *Manager) commitSaves(ctx context.Context, batch []save) error {
	var changes []store.Change
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
	_, err := m.db.Commit(ctx, changes...)
	if err == nil && len(lines) > 0 {
		m.feed.durable()
	}
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
		if err := m.commitSaves(ctx, batch); err != nil {
			m.log.Warn("store refused the last steps of some updates; the next Run reads their devices again", "updates", len(batch), "error", err)
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
			continue
		}
		if batch = append(batch, s); len(batch) == saveBatch {
			commit()
		}
	}
	commit()
}

// saveNow stores what the run has to save, in its turn among the steps.
func (r *run) saveNow(ctx context.Context, l item) {
	r.mu.Lock()
	s := r.unsavedPart()
	r.mu.Unlock()
	if s.record {
		rec, ok := r.commit(ctx, s.update, l, s.lines, true)
		if !ok {
			return
		}
		r.keep(rec, nil, false)
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
