package firmware

import (
	"context"
	"errors"
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
type Progress = store.Progress

// Events yields what happens to all updates: the journal's lines with a greater sequence number than after, first those that
// are there and then new ones as they come, until ctx ends. Lines come at least once and in order; a caller that went away
// goes on with the Seq of the last line it has dealt with. The journal is bounded: lines that were dropped are not yielded,
// nor are damaged ones, which are logged.
//
// The error is the store's, and is the last pair; when ctx ends there is none.
func (m *Manager) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		_, seen := m.feed.since(feedState{})
		seen.durable-- // the journal has been read never yet
		for {
			soft, now := m.feed.since(seen)
			if now.durable != seen.durable {
				for line, err := range m.tail.after(ctx, m.db, after, now.durable) {
					if errors.Is(err, store.ErrDamaged) {
						m.log.Error("a line of the journal cannot be read", "seq", line.Seq, "error", err)
						after = line.Seq
						continue
					}
					if err != nil {
						if ctx.Err() == nil {
							yield(Event{}, err)
						}
						return
					}
					after = line.Seq
					event := Event{Event: line}
					if d := m.runOf(line.Update); d != nil {
						event.Progress = d.current().Progress()
					}
					if !yield(event, nil) {
						return
					}
				}
			}
			for _, event := range soft {
				event.Seq = after
				if !yield(event, nil) {
					return
				}
			}
			seen = now
			select {
			case <-ctx.Done():
				return
			case <-now.changed:
				sleep(ctx, eventGap)
			case <-time.After(eventPoll):
				m.feed.durable() // or so it may be: another process may write to the same store
			}
		}
	}
}

const (
	// eventGap gathers what happens at once, so that many readers do not all run for each of many events.
	eventGap  = 20 * time.Millisecond
	eventPoll = 5 * time.Second
)

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
	return Event{Event: eventOf(rec, EventProgress, ""), Progress: rec.Progress()}
}

// A feed wakes those who read events, and hands them what is not in the journal.
type feed struct {
	mu   sync.Mutex
	ring [1024]Event // progress; a reader that is slower misses some
	now  feedState
}

// A feedState is how far a feed is.
type feedState struct {
	soft    uint64        // events ever put into the ring
	durable uint64        // times that the journal may have grown
	changed chan struct{} // closed at the next change
}

func newFeed() *feed { return &feed{now: feedState{changed: make(chan struct{})}} }

// durable says that the journal has new lines.
func (f *feed) durable() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.durable++
	f.wake()
}

// soft adds an event that is not in the journal.
func (f *feed) soft(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring[f.now.soft%uint64(len(f.ring))] = e
	f.now.soft++
	f.wake()
}

func (f *feed) wake() {
	close(f.now.changed)
	f.now.changed = make(chan struct{})
}

// since returns the soft events after those of an earlier state, as far as they are kept, and the state now.
func (f *feed) since(before feedState) ([]Event, feedState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, size := before.soft, uint64(len(f.ring))
	if f.now.soft > size {
		n = max(n, f.now.soft-size)
	}
	var events []Event
	for ; n < f.now.soft; n++ {
		events = append(events, f.ring[n%size])
	}
	return events, f.now
}
