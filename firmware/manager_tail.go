package firmware

import (
	"context"
	"errors"
	"log/slog"
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
	loads   uint64  // what news had counted when the journal was last read
	last    uint64  // number of the last line that was read
	batches []batch // the latest, without a gap
	from    uint64  // where they begin: the after of the first
	end     uint64  // where they end
	next    uint64  // number of the next one, counted from the beginning

	reading chan struct{} // holds one while free; guards past
	past    []batch       // of older lines; the last one was used last
}

func newTail(db store.Store, log *slog.Logger, event func(store.Event) Event) *tail {
	t := &tail{db: db, log: log, event: event, busy: make(chan struct{}, 1), reading: make(chan struct{}, 1)}
	t.busy <- struct{}{}
	t.reading <- struct{}{}
	t.news.due = make(chan struct{})
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
func (t *tail) load(ctx context.Context) error {
	if !t.begun {
		last, err := t.db.Commit(ctx)
		if err != nil {
			return err
		}
		t.begun, t.last, t.from, t.end = true, last, last, last
		t.next++ // so that no follower is live
		t.loads, _ = t.news.take()
		return nil
	}
	loads, progress := t.news.take()
	var events []Event
	add := func(e Event) {
		if events = append(events, e); len(events) == batchLines {
			t.add(events)
			events = nil
		}
	}
	var failed error
	if loads != t.loads {
		for line, err := range t.db.Events(ctx, store.EventQuery{After: t.last}) {
			if err != nil && !errors.Is(err, store.ErrDamaged) {
				failed = err
				break
			}
			t.last = line.Seq
			if err != nil {
				t.log.Error("journal line cannot be read", "seq", line.Seq, "error", err)
				continue
			}
			add(t.event(line))
		}
	}
	for _, e := range progress {
		e.Seq = t.last
		add(e)
	}
	if len(events) > 0 {
		t.add(events)
	}
	if failed == nil {
		t.loads = loads
	}
	return failed
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
	<-t.busy
	without(t.batches)
	t.busy <- struct{}{}
	<-t.reading
	without(t.past)
	t.reading <- struct{}{}
}

// A news says when the next batch is due: at most once in eventPause, and only if there is
// something new.
type news struct {
	mu        sync.Mutex
	followers int
	loads     uint64  // number of times that the journal may have grown
	progress  []Event // not in the journal
	waits     bool    // a timer runs
	fired     time.Time
	due       chan struct{} // closed when the next batch is due
	dueLoads  uint64        // loads and progress that are due
	dueEvents []Event
}

func (n *news) follow() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers++; n.followers == 1 {
		n.dueLoads, n.dueEvents, n.progress = n.loads, nil, nil
	}
}

// leave reports whether the last follower has left.
func (n *news) leave() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.followers--
	return n.followers == 0
}

// durable records that the journal may have grown.
func (n *news) durable() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loads++
	n.wake()
}

// soft adds an event that is not in the journal.
func (n *news) soft(e Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.followers == 0 {
		return
	}
	if n.progress = append(n.progress, e); len(n.progress) > maxProgress {
		n.progress = n.progress[1:]
	}
	n.wake()
}

func (n *news) wake() {
	if n.followers > 0 && !n.waits {
		n.waits = true
		time.AfterFunc(max(eventGap, eventPause-time.Since(n.fired)), n.fire)
	}
}

func (n *news) fire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits, n.fired = false, time.Now()
	n.dueLoads, n.dueEvents, n.progress = n.loads, append(n.dueEvents, n.progress...), nil
	n.dueEvents = n.dueEvents[max(0, len(n.dueEvents)-maxProgress):]
	close(n.due)
	n.due = make(chan struct{})
}

// next returns a channel that is closed when the next batch is due.
func (n *news) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.due
}

// take returns what is due.
func (n *news) take() (loads uint64, progress []Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	progress, n.dueEvents = n.dueEvents, nil
	return n.dueLoads, progress
}
