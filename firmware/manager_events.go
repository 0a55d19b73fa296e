package firmware

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/firmware/internal/eventjson"
	"github.com/otago-iot/otago/store"
)

// Event is a line of the journal of an update, or, with the name [EventProgress], a report of bytes
// that the device has received.
type Event struct {
	store.Event
	Progress Progress
}

// MarshalJSON returns the form that the HTTP API sends, which package httpapi documents under
// Events. It is for programs that pass events on; an Event cannot be read from it.
func (e Event) MarshalJSON() ([]byte, error) {
	return eventjson.Append(make([]byte, 0, 384), &e.Event, e.Progress)
}

// Progress says how much of a package a device has received, in bytes.
type Progress = store.Progress

// Events yields what happens to all updates: first the stored journal lines with a sequence number
// above after, in order, then new ones as they are stored, until ctx ends. With 0 it begins with
// the oldest line that is kept.
//
// Each line that Events yields is durable. A line that begins a request to the device or ends the
// update is stored before that; other lines are stored within a second of what they say while
// a program ranges over Events, and within 30 s otherwise. They get their Seq then, so the Time of
// lines of different updates may run backwards by that much, but not the Time of one update.
//
// A program that handles lines and stores the Seq of the last one handles each line at least once:
// when it restarts, it passes that Seq as after. Lines of one update keep their order, and so do
// all lines. Events does not yield lines that the bounded journal dropped (see store.JournalHead),
// that were deleted, or that are damaged; damaged ones are logged. [Manager.Span] says whether
// lines after a position were deleted. Events may leave out an [EventProgress] if the loop is slow;
// an EventProgress has no Seq of its own, and must not be stored as the last one.
//
// The error is in the last pair. It is [ErrPosition], or that of the store: then the program calls
// Events again after a pause. When ctx ends there is none. The loop may take any time for a line:
// lines wait in the store.
func (m *Manager) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for events, err := range m.EventBatches(ctx, after) {
			for _, event := range events {
				if !yield(event, nil) {
					return
				}
			}
			if err != nil {
				yield(Event{}, err)
			}
		}
	}
}

// ErrPosition is the error of [Manager.Events] after a position that the journal has not reached:
// it is of another store, or a backup of the store was restored. The program reads again what it
// needs to know, and follows the events from the Last of [Manager.Span].
var ErrPosition = errors.New("firmware: the journal does not reach this position")

// EventBatches is [Manager.Events] for programs that handle many events at once: it yields all that
// there are. The batches are the same for all callers, which must not change them.
func (m *Manager) EventBatches(ctx context.Context, after uint64) iter.Seq2[[]Event, error] {
	return func(yield func([]Event, error) bool) {
		defer m.saver.follow()()
		last, err := m.db.Commit(ctx)
		if err == nil && after > last {
			err = fmt.Errorf("%w: %d, and the journal ends at %d", ErrPosition, after, last)
		}
		if err != nil {
			if ctx.Err() == nil {
				yield(nil, err)
			}
			return
		}
		f, leave := m.tail.follow(after)
		defer leave()
		for {
			due := m.tail.news.next()
			for {
				events, err := m.tail.take(ctx, f)
				if err != nil && ctx.Err() == nil {
					yield(nil, err)
				}
				if err != nil {
					return
				}
				if len(events) == 0 {
					break
				}
				if !yield(events, nil) {
					return
				}
			}
			select {
			case <-ctx.Done():
				return
			case <-due:
			}
		}
	}
}

// Span says which lines the journal of all updates has. A follower whose position is lower than
// Deleted may have missed lines. The error is that of the store.
func (m *Manager) Span(ctx context.Context) (store.Span, error) { return m.db.Span(ctx) }

// event makes an event of a line that is stored.
func (m *Manager) event(line store.Event) Event {
	event := Event{Event: line}
	if r := m.runOf(line.Update); r != nil {
		event.Progress = r.received()
	}
	return event
}

// Journal yields the journal of one update in order. If the update runs here, Journal first stores
// the lines that are not stored yet; if the store takes longer than a second for that, they are
// left out. The error is that of the store. For a line that cannot be read it is a
// *store.DamagedError, and the sequence goes on.
func (m *Manager) Journal(ctx context.Context, id string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		if r := m.runOf(id); r != nil {
			m.saver.reads(r)
			r.flush(ctx)
		}
		for line, err := range m.db.Events(ctx, store.EventQuery{Update: id}) {
			if !yield(Event{Event: line}, err) {
				return
			}
		}
	}
}

// appendJournal makes journal lines of the entries of the state machine.
func appendJournal(lines []store.Event, rec *Update, entries []fsm.Entry) []store.Event {
	if n := len(entries); n > cap(lines)-len(lines) {
		if len(lines) > 0 { // an update that only waits has one line, but few steps are stored alone
			n = max(3, n)
		}
		lines = slices.Grow(lines, n)
	}
	for _, e := range entries {
		lines = append(lines, eventOf(rec, e.Event, e.Detail))
	}
	return lines
}

func eventOf(rec *Update, name, detail string) store.Event {
	return store.Event{
		Update: rec.ID, Endpoint: rec.Endpoint, Time: rec.Changed, Name: name, Detail: detail,
		Phase: rec.Machine.Phase, State: rec.Machine.State, Result: rec.Machine.Result, Outcome: rec.Machine.Outcome,
	}
}

func progressEvent(rec *Update) Event {
	return Event{Event: eventOf(rec, EventProgress, ""), Progress: rec.Progress()}
}
