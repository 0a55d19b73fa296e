package firmware

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/otago-iot/otago/store"
)

const (
	// eventGap collects events that come close together, and eventPause is between two batches, so
	// that followers do not wake for each event. All followers wait for the same moment: so they
	// get the same batches.
	eventGap   = 20 * time.Millisecond
	eventPause = 200 * time.Millisecond
	eventPoll  = 5 * time.Second
	// batchLines is how many events a batch has at most.
	batchLines = 128
	// tailBatches is how many batches the tail keeps. A follower that is further behind reads the
	// store.
	tailBatches = 64
	// pastBatches is how many batches of older lines the tail keeps for the other followers that
	// read them.
	pastBatches = 16
	// maxAdded is how many lines wait for the next batch. If there are more, the tail reads the
	// store.
	maxAdded = 16 << 10
	// maxProgress is how many progress events wait for the next batch: the latest.
	maxProgress = 1024
)

// A batch is some events in order. Followers share it, so nothing writes to its events.
type batch struct {
	events []Event
	after  uint64 // it has the lines of the journal with a greater number,
	end    uint64 // and none with a number greater than this
}

// A tail makes batches of events, once for all followers. It makes the batch that is due when the
// first follower asks for it, and does nothing while there are no followers.
type tail struct {
	db    store.Store
	log   *slog.Logger
	event func(store.Event) Event // makes an event of a line
	news  news

	busy    chan struct{} // holds one while free; guards the fields below
	begun   bool
	due     additions // what load has not added yet
	last    uint64    // number of the last line that was added
	batches []batch   // the latest, without a gap
	from    uint64    // where they begin: the after of the first
	end     uint64    // where they end
	next    uint64    // number of the next one, counted from the beginning

	reading chan struct{} // holds one while free; guards past
	past    []batch       // of older lines; the last one was used last
}

func newTail(db store.Store, log *slog.Logger, event func(store.Event) Event) *tail {
	t := &tail{db: db, log: log, event: event, busy: make(chan struct{}, 1), reading: make(chan struct{}, 1)}
	t.busy <- struct{}{}
	t.reading <- struct{}{}
	t.news.due = make(chan struct{})
	t.news.timer = time.AfterFunc(eventPoll, t.news.fire)
	t.news.timer.Stop()
	return t
}

// A position is how far a follower has got.
type position struct {
	after uint64 // number of the last line that it has got
	live  bool   // it takes the batches of the tail; next is the number of the next one
	next  uint64
}

// follow returns a follower that has got the lines up to after. The caller calls leave at its end.
func (t *tail) follow(after uint64) (f *position, leave func()) {
	t.news.follow()
	return &position{after: after}, func() {
		if !t.news.leave() {
			return
		}
		<-t.busy
		t.begun, t.batches = false, nil // a follower that has come meanwhile begins again
		t.busy <- struct{}{}
		<-t.reading
		t.past = nil
		t.reading <- struct{}{}
	}
}

// take returns the next events for a follower; none if it has got all that are due.
func (t *tail) take(ctx context.Context, f *position) ([]Event, error) {
	for {
		events, from, err := t.recent(ctx, f)
		if err != nil || f.live {
			return events, err
		}
		b, err := t.older(ctx, f.after)
		switch {
		case err != nil:
			return nil, err
		case b.end == f.after: // all lines up to from have been deleted
			f.after = from
		default:
			f.after = b.end
		}
		if len(b.events) > 0 {
			return b.events, nil
		}
	}
}

// recent returns the next events for a follower, if the tail has them and the follower so is live.
// Else it returns the number of the line after which the tail begins.
func (t *tail) recent(ctx context.Context, f *position) (events []Event, from uint64, err error) {
	if err := acquire(ctx, t.busy); err != nil {
		return nil, 0, err
	}
	defer func() { t.busy <- struct{}{} }()
	if err := t.load(ctx); err != nil {
		return nil, 0, err
	}
	first := t.next - uint64(len(t.batches))
	if f.live = f.live && f.next >= first; !f.live {
		if f.after < t.from {
			return nil, t.from, nil
		}
		f.live, f.next = true, first
		for f.next < t.next && t.batches[f.next-first].end <= f.after {
			f.next++
		}
	}
	for len(events) == 0 && f.next < t.next {
		b := t.batches[f.next-first]
		f.next++
		events = b.events
		if b.after < f.after { // the follower has got some of them
			at, _ := slices.BinarySearchFunc(events, f.after+1, bySeq)
			events = events[at:]
		}
		f.after = max(f.after, b.end)
	}
	return events, 0, nil
}

func bySeq(e Event, seq uint64) int {
	switch {
	case e.Seq < seq:
		return -1
	case e.Seq > seq:
		return 1
	}
	return 0
}

// acquire takes the value of a channel that holds one.
func acquire(ctx context.Context, free chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-free:
		return nil
	}
}

// load makes the batches that are due. The first call only finds the end of the journal.
//
// It takes lines from the commits that appended them, and reads the store only for numbers that no
// commit has reported: its result was unknown, its report is late, or it is another process's.
func (t *tail) load(ctx context.Context) error {
	t.news.take(&t.due)
	if !t.begun {
		last, err := t.db.Commit(ctx)
		if err != nil {
			return err
		}
		t.begun, t.last, t.from, t.end, t.due = true, last, last, last, additions{}
		t.next++ // so that no follower is live
		return nil
	}
	var events []Event
	size := len(t.due.progress)
	for i := range t.due.commits {
		size += len(t.due.commits[i].lines)
	}
	size = min(max(size, 1), batchLines) // with those of the store they are more
	add := func(e Event) {
		if events == nil {
			events = make([]Event, 0, size)
		}
		if events = append(events, e); len(events) == batchLines {
			t.add(events)
			events = nil
		}
	}
	err := t.lines(ctx, func(line store.Event) { add(t.event(line)) })
	if err == nil {
		for _, e := range t.due.progress {
			e.Seq = t.last
			add(e)
		}
		t.due = additions{}
	}
	if len(events) > 0 {
		t.add(events)
	}
	return err
}

// lines passes on the lines that are due. After an error the rest stays due.
func (t *tail) lines(ctx context.Context, add func(store.Event)) error {
	slices.SortFunc(t.due.commits, func(a, b addition) int { return cmp.Compare(a.last, b.last) })
	for len(t.due.commits) > 0 {
		c := t.due.commits[0]
		if first := c.last - uint64(len(c.lines)) + 1; first > t.last+1 {
			if err := t.read(ctx, first-1, add); err != nil {
				return err
			}
		}
		for i, line := range c.lines {
			line.Seq = c.last - uint64(len(c.lines)-1-i)
			if line.Seq > t.last && line.Normalize() == nil { // it is stored, so it has no error
				t.last = line.Seq
				add(line)
			}
		}
		t.due.commits = t.due.commits[1:]
	}
	if !t.due.others {
		return nil
	}
	return t.read(ctx, math.MaxUint64, add)
}

// read passes on the lines of the store from t.last to the line with the number end.
func (t *tail) read(ctx context.Context, end uint64, add func(store.Event)) error {
	for line, err := range t.db.Events(ctx, store.EventQuery{After: t.last}) {
		switch {
		case err != nil && !errors.Is(err, store.ErrDamaged):
			return err
		case line.Seq > end:
			return nil
		}
		t.last = line.Seq
		if err != nil {
			t.log.Error("journal line cannot be read", "seq", line.Seq, "error", err)
			continue
		}
		add(line)
	}
	return nil
}

// add adds a batch, which owns events.
func (t *tail) add(events []Event) {
	b := batch{slices.Clip(events), t.end, events[len(events)-1].Seq}
	t.batches, t.end, t.next = append(t.batches, b), b.end, t.next+1
	if len(t.batches) > tailBatches {
		t.from = t.batches[0].end
		t.batches = slices.Delete(t.batches, 0, 1)
	}
}

// older reads lines of the store that come after a number; none if there are none.
//
// It ends a batch before a multiple of batchLines. So followers that began after different lines
// soon get the same batches.
func (t *tail) older(ctx context.Context, after uint64) (b batch, err error) {
	if err := acquire(ctx, t.reading); err != nil {
		return b, err
	}
	defer func() { t.reading <- struct{}{} }()
	if at := slices.IndexFunc(t.past, func(b batch) bool { return b.after == after }); at >= 0 {
		b = t.past[at]
		t.past = append(slices.Delete(t.past, at, at+1), b)
		return b, nil
	}
	b = batch{after: after, end: after}
	for line, err := range t.db.Events(ctx, store.EventQuery{After: after, Limit: batchLines}) {
		if err != nil && !errors.Is(err, store.ErrDamaged) {
			return b, err
		}
		if b.end > after && line.Seq/batchLines != b.end/batchLines {
			break
		}
		if b.end = line.Seq; err != nil {
			t.log.Error("journal line cannot be read", "seq", line.Seq, "error", err)
			continue
		}
		b.events = append(b.events, t.event(line))
	}
	if b.end > after {
		if len(t.past) == pastBatches {
			t.past = slices.Delete(t.past, 0, 1)
		}
		t.past = append(t.past, b)
	}
	return b, nil
}

// forget removes the lines of updates.
func (t *tail) forget(updates ...string) {
	of := func(e Event) bool { return slices.Contains(updates, e.Update) }
	without := func(batches []batch) {
		for i, b := range batches {
			if slices.ContainsFunc(b.events, of) {
				batches[i].events = slices.DeleteFunc(slices.Clone(b.events), of)
			}
		}
	}
	t.news.forget(updates)
	<-t.busy
	t.due.forget(updates)
	without(t.batches)
	t.busy <- struct{}{}
	<-t.reading
	without(t.past)
	t.reading <- struct{}{}
}

// An addition is the lines that a commit has appended to the journal, and the number of the last.
type addition struct {
	lines []store.Event // without numbers, as the program made them
	last  uint64
}

// additions are what followers do not have yet.
type additions struct {
	commits  []addition
	lines    int     // of commits
	others   bool    // the journal may have grown by further lines
	progress []Event // not in the journal
}

// add adds what is in b, which comes later, and empties it.
func (a *additions) add(b *additions) {
	a.commits, a.lines = append(a.commits, b.commits...), a.lines+b.lines
	a.progress, a.others = append(a.progress, b.progress...), a.others || b.others
	a.bound()
	*b = additions{}
}

// bound drops what would take too much memory: lines, which are in the store, and old progress.
func (a *additions) bound() {
	if a.lines > maxAdded {
		a.commits, a.lines, a.others = nil, 0, true
	}
	a.progress = a.progress[max(0, len(a.progress)-maxProgress):]
}

// forget removes the lines of updates: commits that have one, so that load reads the store.
func (a *additions) forget(updates []string) {
	of := func(e store.Event) bool { return slices.Contains(updates, e.Update) }
	before := len(a.commits)
	a.commits = slices.DeleteFunc(a.commits, func(c addition) bool { return slices.ContainsFunc(c.lines, of) })
	a.others = a.others || len(a.commits) < before
	a.progress = slices.DeleteFunc(a.progress, func(e Event) bool { return slices.Contains(updates, e.Update) })
}

// A news says when the next batch is due: at most once in eventPause, and only if there is
// something new. At the latest after eventPoll the store is read, to which another process may
// write.
type news struct {
	mu        sync.Mutex
	followers int
	added     additions
	waits     bool        // the timer is set for a batch, not for eventPoll
	timer     *time.Timer // calls fire; it stands while there are no followers
	fired     time.Time
	due       chan struct{} // closed when the next batch is due
	dueAdded  additions
}

func (n *news) follow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers++; n.followers == 1 {
		n.added, n.dueAdded, n.waits = additions{}, additions{}, false
		n.timer.Reset(eventPoll)
	}
}

// leave reports whether the last follower has left.
func (n *news) leave() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers--; n.followers > 0 {
		return false
	}
	n.timer.Stop()
	n.added, n.dueAdded = additions{}, additions{}
	return true
}

// grown records that the journal may have grown by lines that no commit has reported.
func (n *news) grown() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers > 0 {
		n.added.others = true
		n.wake()
	}
}

// committed records the result of a commit: the lines that it should append, which nothing changes
// from then on, and the number of the last one. After an error they may be stored or not.
func (n *news) committed(lines []store.Event, last uint64, err error) {
	switch {
	case len(lines) == 0:
		return
	case err != nil:
		n.grown()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers > 0 {
		n.added.commits, n.added.lines = append(n.added.commits, addition{lines, last}), n.added.lines+len(lines)
		n.added.bound()
		n.wake()
	}
}

// progress adds an event that is not in the journal.
func (n *news) progress(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers == 0 {
		return
	}
	n.added.progress = append(n.added.progress, e)
	n.added.bound()
	n.wake()
}

func (n *news) forget(updates []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.added.forget(updates)
	n.dueAdded.forget(updates)
}

func (n *news) wake() {
	if !n.waits {
		n.waits = true
		n.timer.Reset(max(eventGap, eventPause-time.Since(n.fired)))
	}
}

func (n *news) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers == 0 {
		return
	}
	if n.waits {
		n.waits, n.fired = false, time.Now()
	} else {
		n.added.others = true
	}
	n.dueAdded.add(&n.added)
	close(n.due)
	n.due = make(chan struct{})
	n.timer.Reset(eventPoll)
}

// next returns a channel that is closed when the next batch is due.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.due
}

// take moves what is due to a.
func (n *news) take(a *additions) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a.add(&n.dueAdded)
}
