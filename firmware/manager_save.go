package firmware

import (
	"context"
	"math"
	"sync"
	"time"
)

// Times of soft steps, which a crash may lose; see fsm.Actions.
const (
	// saveLate is when the save of a soft step is due, so that it is stored within 30 s. The save
	// takes the steps with it that are due within saveSlack.
	saveLate  = 25 * time.Second
	saveSlack = 10 * time.Second
	// saveSoon is when it is due for an update with a follower or a reader, so that it is stored
	// within 1 s. The save takes the steps with it that are due within soonSlack: few, as most have
	// a hard step soon, which takes them along.
	saveSoon  = 900 * time.Millisecond
	soonSlack = 150 * time.Millisecond
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
	late      waitingRuns // with something to save, the longest first
	soon      waitingRuns // those with a follower or a reader
	followers int         // of the events of all updates
	timer     *time.Timer
	next      time.Duration // when timer fires; math.MaxInt64 for never
	saving    bool

	batch []save // memory of saveDue
}

// A saving is what a saver knows of a run. Its mutex guards it.
type saving struct {
	in     *waitingRuns  // saver.late or saver.soon; nil: nothing to save
	before *run          // in that list; nil: it is the first
	after  *run          // likewise the last
	lines  bool          // there are journal lines to save
	since  time.Duration // by the manager's clock
	read   time.Duration // until then a caller of Get or Journal counts as its reader
}

// waitingRuns are runs in the order in which they were added.
type waitingRuns struct{ first, last *run }

func (l *waitingRuns) add(r *run) {
	w := &r.saving
	w.in, w.before, w.after = l, l.last, nil
	if l.last == nil {
		l.first = r
	} else {
		l.last.saving.after = r
	}
	l.last = r
}

func (l *waitingRuns) remove(r *run) {
	w := &r.saving
	if w.before == nil {
		l.first = w.after
	} else {
		w.before.saving.after = w.after
	}
	if w.after == nil {
		l.last = w.before
	} else {
		w.after.saving.before = w.before
	}
	w.in, w.before, w.after = nil, nil, nil
}

// add records that a run has something to save, for example journal lines.
func (s *saver) add(r *run, lines bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &r.saving
	w.lines = w.lines || lines
	if w.in == nil {
		w.since = s.now()
		s.late.add(r)
	}
	s.hurry(r)
	s.schedule()
}

// hurry makes a run due soon if it has journal lines and a follower or a reader.
func (s *saver) hurry(r *run) {
	w := &r.saving
	if w.in != &s.late || !w.lines || s.followers == 0 && s.now() >= w.read {
		return
	}
	s.late.remove(r)
	w.since = s.now()
	s.soon.add(r)
}

// remove records that a run has nothing to save.
func (s *saver) remove(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.take(r)
}

// take removes a run from the lists. s.mu is held.
func (s *saver) take(r *run) {
	if w := &r.saving; w.in != nil {
		w.in.remove(r)
		w.lines = false
	}
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
		for r := s.late.first; r != nil; {
			next := r.saving.after
			s.hurry(r)
			r = next
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
	due := time.Duration(math.MaxInt64)
	if s.soon.first != nil {
		due = s.soon.first.saving.since + saveSoon
	}
	if s.late.first != nil {
		due = min(due, s.late.first.saving.since+saveLate)
	}
	if s.saving || due >= s.next { // a timer that is early does no harm
		return
	}
	s.next = due
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
	s.next = math.MaxInt64
	if s.saving || s.soon.first == nil && s.late.first == nil {
		return
	}
	s.saving = s.m.spawn(s.saveDue)
}

// saveDue saves, batch by batch, the runs that are due.
func (s *saver) saveDue(ctx context.Context) {
	for ctx.Err() == nil {
		batch := s.dueSaves()
		if len(batch) == 0 {
			break
		}
		s.m.save(ctx, batch)
		clear(batch)
		s.batch = batch
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saving = false
	s.schedule()
}

// dueSaves returns saves of runs that are due. A run that makes a step is due again soon.
func (s *saver) dueSaves() (batch []save) {
	var due, busy []*run
	s.mu.Lock()
	until := s.now()
	for r := s.soon.first; r != nil && len(due) < saveBatch; r = s.soon.first {
		if r.saving.since > until-saveSoon+soonSlack {
			break
		}
		s.take(r)
		due = append(due, r)
	}
	for r := s.late.first; r != nil && len(due) < saveBatch; r = s.late.first {
		if r.saving.since > until-saveLate+saveSlack {
			break
		}
		s.take(r)
		due = append(due, r)
	}
	s.mu.Unlock()
	batch = s.batch[:0]
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
		if w := &r.saving; w.in == nil {
			w.since, w.lines = s.now(), true
			s.soon.add(r)
		}
	}
	return batch
}
