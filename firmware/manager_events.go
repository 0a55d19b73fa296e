package firmware

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// Event is something that happened to an update: a line of its journal, or, with the name [EventProgress], bytes that went
// to the device.
type Event struct {
	store.Event
	Progress Progress `json:"progress"`
}

// Progress says how much of a package went to the device, in bytes.
type Progress struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
}

// EventProgress is the name of an event that only tells progress. It is not in the journal, and its Seq is that of the
// journal's last line before it.
const EventProgress = "progress"

// ProgressOf returns how far the package of u got.
func ProgressOf(u Update) Progress {
	return Progress{Bytes: u.Machine.Bytes, Total: u.Machine.Plan.Size}
}

// Events yields what happens to all updates: the journal's lines with a greater sequence number than after, first those that
// are there and then new ones as they come, until ctx ends. Lines come at least once and in order; a caller that went away
// goes on with the Seq of the last line it has dealt with. The journal is bounded: lines that were dropped are not yielded.
//
// The error is the store's, and is the last pair; when ctx ends there is none.
func (m *Manager) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		_, seen, _ := m.feed.since(0)
		for {
			soft, n, changed := m.feed.since(seen)
			seen = n
			for line, err := range m.db.Events(ctx, store.EventQuery{After: after}) {
				if err != nil {
					if ctx.Err() == nil {
						yield(Event{}, err)
					}
					return
				}
				after = line.Seq
				event := Event{Event: line}
				if d := m.drive(line.Update); d != nil {
					event.Progress = ProgressOf(d.current())
				}
				if !yield(event, nil) {
					return
				}
			}
			for _, event := range soft {
				event.Seq = after
				if !yield(event, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-changed:
			case <-time.After(eventPoll):
				// Another process may write to the same store.
			}
		}
	}
}

const eventPoll = 5 * time.Second

// Journal yields the journal of one update in its order.
func (m *Manager) Journal(ctx context.Context, id string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for line, err := range m.db.Events(ctx, store.EventQuery{Update: id}) {
			if !yield(Event{Event: line}, err) {
				return
			}
		}
	}
}

// journal makes lines of what the machine said.
func journal(rec Update, entries []fsm.Entry) []store.Event {
	lines := make([]store.Event, len(entries))
	for i, e := range entries {
		lines[i] = eventOf(rec, e.Event, e.Detail)
	}
	return lines
}

func eventOf(rec Update, name, detail string) store.Event {
	return store.Event{
		Update: rec.ID, Endpoint: rec.Endpoint, Time: rec.Changed, Name: name, Detail: detail,
		Phase: rec.Machine.Phase, State: rec.Machine.State, Result: rec.Machine.Result, Outcome: rec.Machine.Outcome,
	}
}

func progressEvent(rec Update) Event {
	return Event{Event: eventOf(rec, EventProgress, ""), Progress: ProgressOf(rec)}
}

// A feed wakes those who read events, and hands them what is not in the journal.
type feed struct {
	mu      sync.Mutex
	changed chan struct{}
	ring    [1024]Event // progress; a reader that is slower misses some
	n       uint64      // events ever put into ring
}

func newFeed() *feed { return &feed{changed: make(chan struct{})} }

// durable says that the journal has new lines.
func (f *feed) durable() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wake()
}

// soft adds an event that is not in the journal.
func (f *feed) soft(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring[f.n%uint64(len(f.ring))] = e
	f.n++
	f.wake()
}

func (f *feed) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// since returns the soft events after the first n, how many there have been, and a channel that closes at the next change.
func (f *feed) since(n uint64) ([]Event, uint64, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := uint64(len(f.ring))
	if f.n > size {
		n = max(n, f.n-size)
	}
	var events []Event
	for ; n < f.n; n++ {
		events = append(events, f.ring[n%size])
	}
	return events, f.n, f.changed
}
