package firmware

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"slices"

	"github.com/otago-iot/otago/store"
)

// A tail keeps the last lines of the journal in memory, so that the store is read once for all
// readers of events.
type tail struct {
	log   *slog.Logger
	event func(store.Event) Event // makes an event of a line, once for all readers
	busy  chan struct{}           // holds one while free; guards the fields below

	begun bool
	loads uint64  // feed's count at the last load
	from  uint64  // lines has all lines with a greater sequence number, up to the last load
	last  uint64  // number of the last line that was loaded, or from
	lines []Event // replaced or appended to, never written to where a reader may be
}

// tailLines is how many lines are kept. A reader that is further behind reads the store.
const tailLines = 4096

func newTail(log *slog.Logger, event func(store.Event) Event) *tail {
	t := &tail{log: log, event: event, busy: make(chan struct{}, 1)}
	t.busy <- struct{}{}
	return t
}

// A batch is some lines of the journal, and the position after them, which damaged lines move too.
type batch struct {
	lines []Event
	end   uint64
}

// batchLines is how many lines a batch from the store has.
const batchLines = 128

// after yields the journal lines after seq. loads is the count of the feed that the lines must
// include.
func (t *tail) after(ctx context.Context, db store.Store, seq, loads uint64) iter.Seq2[batch, error] {
	return func(yield func(batch, error) bool) {
		lines, ok, err := t.recent(ctx, db, seq, loads)
		switch {
		case err != nil:
			yield(batch{}, err)
			return
		case ok:
			if len(lines) > 0 {
				yield(batch{lines, lines[len(lines)-1].Seq}, nil)
			}
			return
		}
		var b batch
		for line, err := range db.Events(ctx, store.EventQuery{After: seq}) {
			switch {
			case errors.Is(err, store.ErrDamaged):
				t.log.Error("journal line cannot be read", "seq", line.Seq, "error", err)
			case err != nil:
				yield(batch{}, err)
				return
			default:
				b.lines = append(b.lines, t.event(line))
			}
			b.end = line.Seq
			if len(b.lines) == batchLines {
				if !yield(b, nil) {
					return
				}
				b = batch{}
			}
		}
		if b.end > 0 {
			yield(b, nil)
		}
	}
}

// recent returns the lines after seq; nothing writes to them. ok is false if some of them are no
// longer kept.
func (t *tail) recent(ctx context.Context, db store.Store, seq, loads uint64) (lines []Event, ok bool, err error) {
	select {
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case <-t.busy:
	}
	defer func() { t.busy <- struct{}{} }()
	if err := t.load(ctx, db, loads); err != nil {
		return nil, false, err
	}
	if seq < t.from {
		return nil, false, nil
	}
	i, found := slices.BinarySearchFunc(t.lines, seq, func(e Event, seq uint64) int {
		return int(min(max(int64(e.Seq)-int64(seq), -1), 1))
	})
	if found {
		i++
	}
	return t.lines[i:], true, nil
}

// forget removes the lines of updates.
func (t *tail) forget(updates ...string) {
	<-t.busy
	defer func() { t.busy <- struct{}{} }()
	of := func(e Event) bool { return slices.Contains(updates, e.Update) }
	if slices.ContainsFunc(t.lines, of) {
		t.lines = slices.DeleteFunc(slices.Clone(t.lines), of)
	}
}

// load reads new lines. The first call only finds the end of the journal.
func (t *tail) load(ctx context.Context, db store.Store, loads uint64) error {
	if t.begun && loads <= t.loads {
		return nil
	}
	if !t.begun {
		last, err := db.Commit(ctx)
		if err != nil {
			return err
		}
		t.begun, t.from, t.last, t.loads = true, last, last, loads
		return nil
	}
	for line, err := range db.Events(ctx, store.EventQuery{After: t.last}) {
		if errors.Is(err, store.ErrDamaged) {
			t.log.Error("journal line cannot be read", "seq", line.Seq, "error", err)
			t.last = line.Seq
			continue
		}
		if err != nil {
			return err
		}
		t.lines, t.last = append(t.lines, t.event(line)), line.Seq
	}
	t.loads = loads
	if drop := len(t.lines) - tailLines; drop > tailLines { // rarely, so that copying costs little
		t.from = t.lines[drop-1].Seq
		t.lines = slices.Clone(t.lines[drop:])
	}
	return nil
}
