package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/door"
	"github.com/otago-iot/otago/firmware/internal/eventjson"
)

// streamEvents sends the journal as server-sent events. A slow client delays no other: the journal
// is durable, so each stream reads it at its own pace. The server drops a client that accepts
// nothing for a heartbeat.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request, req request) error {
	after, err := resumeAfter(r, req.query)
	if err != nil {
		return err
	}
	span, err := a.manager.Span(r.Context())
	if err != nil {
		return err
	}
	if err := checkPosition(after, span.Last); err != nil {
		return err
	}
	var answers <-chan chunk
	if !req.query.has("update") {
		var stop func()
		answers, stop = a.handedIn.follow(req.query.get("endpoint"))
		defer stop()
	}
	gap := ""
	if after > 0 && after < span.Deleted {
		gap = fmt.Sprintf("event: gap\ndata: {\"after\": %d, \"deleted\": %d}\n\n", after, span.Deleted)
	}
	return a.streamJournal(w, r, req, gap, answers, func(ctx context.Context) <-chan chunk {
		return a.selectEvents(ctx, after, req.query)
	})
}

// streamJournal sends what the channel of lines gives, and the answers, until the client leaves.
// first comes before them.
func (a *api) streamJournal(
	w http.ResponseWriter, r *http.Request, req request, first string, answers <-chan chunk, lines func(context.Context) <-chan chunk,
) error {
	leave, err := a.enterStream(r, "")
	if err != nil {
		return err
	}
	defer leave()
	s, r, done, err := a.openStream(w, r)
	defer done()
	if err != nil || r.Method == http.MethodHead {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	again := func() error { return a.guard.again(r, req.access) }
	// The first line shows the client that it is connected, and how long to wait before it
	// reconnects.
	if s.write([]byte("retry: 2000\n\n"+first)) != nil {
		return nil
	}
	if err := s.run(ctx, lines(ctx), answers, a.config.Heartbeat, again); err != nil && ctx.Err() == nil {
		a.config.Logger.Info("event stream ended", "remote", r.RemoteAddr, "path", r.URL.Path, "error", err)
	}
	return nil // the status has been sent
}

// enterStream counts a stream, of one device unless endpoint is empty. The last one that leaves
// gives the memory of texts back.
func (a *api) enterStream(r *http.Request, endpoint string) (leave func(), err error) {
	left, err := a.streams.enter(r, endpoint)
	if err != nil {
		return nil, err
	}
	return func() {
		if left() == 0 {
			a.texts.forget()
		}
	}, nil
}

// checkPosition refuses a position that the journal, whose last line has the number last, does not
// have yet.
func checkPosition(after, last uint64) error {
	if after <= last {
		return nil
	}
	return newProblem(http.StatusConflict, "position", fmt.Sprintf(
		"the journal ends at %d: the position is of another server, or of one before a backup was restored; begin without it", last))
}

// openStream sends the header of an event stream. The caller calls done when the stream has ended.
func (a *api) openStream(w http.ResponseWriter, r *http.Request) (_ *stream, _ *http.Request, done func(), err error) {
	w, r, done = door.Limit(w, r, a.config.Heartbeat, maxPiece)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not buffer events
	s := &stream{w: w, control: http.NewResponseController(w)}
	if err := s.control.Flush(); errors.Is(err, http.ErrNotSupported) { // it sends the header
		return nil, r, done, fmt.Errorf("httpapi: a middleware keeps events from being sent: %w", err)
	}
	return s, r, done, nil
}

// resumeAfter returns the sequence number after which the stream starts.
func resumeAfter(r *http.Request, q query) (uint64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = q.get("after")
	}
	if text == "" {
		return 0, nil
	}
	after, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, invalidQuery("after", "Last-Event-ID and after must be the id of an event")
	}
	return after, nil
}

// maxPiece is how much of the events a client accepts within a heartbeat, in bytes. Small pieces
// cost a system call each.
const maxPiece = 64 << 10

// chunk is the text of some events, or the error that ends the stream.
type chunk struct {
	text []byte
	err  error
	done func() // called when the text has been written; nil: nothing waits for that
}

// selectEvents sends the events that the query selects, until ctx ends.
func (a *api) selectEvents(ctx context.Context, after uint64, q query) <-chan chunk {
	selects := selector(q.get("update"), q.get("endpoint"))
	chunks := make(chan chunk, 4)
	send := func(c chunk) bool {
		select {
		case chunks <- c:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(chunks)
		for events, err := range a.manager.EventBatches(ctx, after) {
			c := chunk{err: err}
			switch {
			case err != nil:
			case selects == nil:
				shared := a.texts.of(events)
				c = chunk{shared.text, shared.err, shared.done}
			default:
				c.text, c.err = appendEvents(nil, events, selects)
			}
			if (len(c.text) > 0 || c.err != nil) && !send(c) {
				return
			}
		}
	}()
	return chunks
}

// stream writes server-sent events.
type stream struct {
	w       io.Writer
	control *http.ResponseController
}

// run sends chunks until the channel is closed or ctx ends, and between them what comes from more,
// which may be nil. At each heartbeat it checks the access with again, and ends on its error.
func (s *stream) run(ctx context.Context, chunks, more <-chan chunk, heartbeat time.Duration, again func() error) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case c := <-more:
			if err := s.write(c.text); err != nil {
				return err
			}
		case c, ok := <-chunks:
			if !ok {
				return nil
			}
			if _, err := s.w.Write(c.text); err != nil {
				return err
			}
			if c.done != nil {
				c.done()
			}
			if len(chunks) > 0 { // flushed with the last of them
				continue
			}
			if err := s.control.Flush(); err != nil {
				return err
			}
			if c.err != nil {
				return c.err
			}
		case <-ticker.C:
			if err := again(); err != nil {
				return err
			}
			if err := s.write([]byte(":\n\n")); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// write sends some events. It fails if the client does not accept them in time.
func (s *stream) write(text []byte) error {
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.control.Flush()
}

// selector returns a function that selects events of an update and an endpoint, if they are not
// "", or nil if it would select all.
func selector(update, endpoint string) func(*firmware.Event) bool {
	if update == "" && endpoint == "" {
		return nil
	}
	return func(e *firmware.Event) bool {
		return (update == "" || e.Update == update) && (endpoint == "" || e.Endpoint == endpoint)
	}
}

// appendEvents appends events as a stream shows them: those that are selected, or all if selects is
// nil.
func appendEvents(b []byte, events []firmware.Event, selects func(*firmware.Event) bool) ([]byte, error) {
	for i := range events {
		e := &events[i]
		if selects != nil && !selects(e) {
			continue
		}
		if e.Name != firmware.EventProgress {
			b = append(strconv.AppendUint(append(b, "id: "...), e.Seq, 10), '\n')
		}
		var err error
		if b, err = eventjson.Append(append(b, "data: "...), &e.Event, e.Progress); err != nil {
			return b, err
		}
		b = append(b, "\n\n"...)
	}
	return b, nil
}

// texts keeps the text of the latest batches of events, so that it is made once for all streams:
// the manager gives all of them the same batches.
type texts struct {
	mu    sync.Mutex
	kept  [32]*streamText
	next  int      // the place of the next one
	spare [][]byte // memory of texts that no stream has any more
}

// maxSpare is how many texts' memory is used again.
const maxSpare = 4

// A streamText is the text of a batch.
type streamText struct {
	first *firmware.Event // of the batch; it keeps the batch from being freed, so that no other has it
	count int
	once  sync.Once
	text  []byte // valid until done, and not changed by streams
	err   error
	users int    // streams that have it; guarded by texts.mu
	gone  bool   // it is no longer kept
	done  func() // called by each stream that has written it
}

// of returns the text of a batch. A stream that does not call its done leaves its memory to the
// garbage collector.
func (t *texts) of(events []firmware.Event) *streamText {
	t.mu.Lock()
	e := t.find(events)
	e.users++
	t.mu.Unlock()
	e.once.Do(func() {
		t.mu.Lock()
		var b []byte
		if last := len(t.spare) - 1; last >= 0 {
			b, t.spare = t.spare[last], t.spare[:last]
		}
		t.mu.Unlock()
		e.text, e.err = appendEvents(b, events, nil)
	})
	return e
}

// find returns the text that is kept of a batch, or one to be made, which it keeps in place of the
// oldest one. t.mu is held.
func (t *texts) find(events []firmware.Event) *streamText {
	for _, e := range t.kept {
		if e != nil && e.first == &events[0] && e.count == len(events) {
			return e
		}
	}
	if old := t.kept[t.next]; old != nil {
		old.gone = true
		t.reuse(old)
	}
	e := &streamText{first: &events[0], count: len(events)}
	e.done = func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		e.users--
		t.reuse(e)
	}
	t.kept[t.next] = e
	t.next = (t.next + 1) % len(t.kept)
	return e
}

// reuse keeps the memory of a text that no stream has. t.mu is held.
func (t *texts) reuse(e *streamText) {
	if e.gone && e.users == 0 && len(t.spare) < maxSpare {
		t.spare = append(t.spare, e.text[:0])
	}
}

// forget frees the memory.
func (t *texts) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.kept[:])
	t.spare = nil
}
