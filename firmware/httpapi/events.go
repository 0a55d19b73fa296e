package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/door"
	"github.com/otago-iot/otago/firmware/internal/eventjson"
	"github.com/otago-iot/otago/store"
)

// streamEvents sends the journal, and what else the client asks for, as server-sent events. A slow
// client delays no other: the journal is durable, so each stream reads it at its own pace. The
// server drops a client that accepts nothing for a heartbeat.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request, req request) error {
	want, err := wanted(req.query)
	if err != nil {
		return err
	}
	for _, access := range want.further(req.access) {
		if err := a.guard.check(r, access); err != nil {
			return err
		}
	}
	after, end, err := resumeAfter(r, req.query)
	if err != nil {
		return err
	}
	span, err := a.manager.Span(r.Context())
	if err != nil {
		return err
	}
	if end {
		after = span.Last
	}
	if err := checkPosition(after, span.Last); err != nil {
		return err
	}
	first, err := a.begin(after, span)
	if err != nil {
		return err
	}
	if after > 0 && after < span.Deleted {
		first = fmt.Appendf(first, "event: gap\ndata: {\"after\": %d, \"deleted\": %d}\n\n", after, span.Deleted)
	}
	f := feed{first: first, further: want.further(req.access)}
	if want.kinds[kindUpdate] {
		if want.update == "" && want.rollout == "" {
			var stop func()
			f.answers, stop = a.handedIn.follow(want.endpoint)
			defer stop()
		}
		f.lines = func(ctx context.Context) <-chan chunk { return a.selectEvents(ctx, after, want) }
	}
	f.live = want
	return a.streamJournal(w, r, req, f)
}

// beginView says where a stream begins.
type beginView struct {
	After     uint64  `json:"after"`   // number of the line after which it begins
	Last      uint64  `json:"last"`    // of the newest line
	Deleted   uint64  `json:"deleted"` // highest number of a line that was deleted; 0 if none was
	AtEnd     bool    `json:"at_end"`
	Heartbeat float64 `json:"heartbeat_seconds"`
}

// begin returns the first event of a stream. Its id is the position, so that a client that
// reconnects before the next event begins there again.
func (a *api) begin(after uint64, span store.Span) ([]byte, error) {
	text, err := eventOf("begin", beginView{after, span.Last, span.Deleted, after == span.Last, a.config.Heartbeat.Seconds()})
	return append(fmt.Appendf(nil, "id: %d\n", after), text...), err
}

// A feed is what an event stream sends.
type feed struct {
	first   []byte
	lines   func(context.Context) <-chan chunk // nil: no journal
	answers <-chan chunk
	live    *wants   // nil: nothing of the hub
	further []Access // that are checked at each heartbeat too
}

// streamJournal sends a feed until the client leaves.
func (a *api) streamJournal(w http.ResponseWriter, r *http.Request, req request, f feed) error {
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
	again := func() error {
		for _, access := range append([]Access{req.access}, f.further...) {
			if err := a.guard.again(r, access); err != nil {
				return err
			}
		}
		return nil
	}
	// The first line shows the client that it is connected, and how long to wait before it
	// reconnects.
	if s.write(append([]byte("retry: 2000\n\n"), f.first...)) != nil {
		return nil
	}
	if f.live != nil {
		var stop func()
		s.live, stop = a.hub.join(f.live)
		defer stop()
	}
	var lines <-chan chunk
	if f.lines != nil {
		lines = f.lines(ctx)
	}
	if err := s.run(ctx, lines, f.answers, a.config.Heartbeat, again); err != nil && ctx.Err() == nil {
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
	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not buffer events
	s := &stream{w: w, control: http.NewResponseController(w)}
	if err := s.control.Flush(); errors.Is(err, http.ErrNotSupported) { // it sends the header
		return nil, r, done, fmt.Errorf("httpapi: a middleware keeps events from being sent: %w", err)
	}
	return s, r, done, nil
}

// resumeAfter returns the sequence number after which the stream starts, or that it starts at the
// end.
func resumeAfter(r *http.Request, q query) (after uint64, end bool, err error) {
	position := func(text string) {
		if err == nil && text != "" {
			if after, err = strconv.ParseUint(text, 10, 64); err != nil {
				err = invalidQuery("after", "Last-Event-ID and after must be the id of an event; after may be end")
			}
			end = false
		}
	}
	if asked := q.get("after"); asked == "end" {
		end = true
	} else {
		position(asked)
	}
	position(r.Header.Get("Last-Event-ID"))
	return after, end, err
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

// selectEvents sends the events that a client wants, until ctx ends.
func (a *api) selectEvents(ctx context.Context, after uint64, want *wants) <-chan chunk {
	selects := a.selector(ctx, want)
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
			if err == nil {
				shared := a.texts.of(events)
				c = chunk{shared.text, shared.err, shared.done}
				if selects != nil {
					c.text, c.done = shared.selected(events, selects), nil
					shared.done()
				}
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
	live    <-chan chunk // of the hub, which closes it if the client is slow; nil for none
}

var errSlowClient = errors.New("httpapi: the client reads too slowly")

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
		case c, ok := <-s.live:
			if !ok {
				return errSlowClient
			}
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

// selector returns a function that selects the events that a client wants, or nil if it would
// select all.
func (a *api) selector(ctx context.Context, want *wants) func(*firmware.Event) bool {
	if want.update == "" && want.endpoint == "" && want.rollout == "" {
		return nil
	}
	return func(e *firmware.Event) bool {
		return (want.update == "" || e.Update == want.update) && (want.endpoint == "" || e.Endpoint == want.endpoint) &&
			(want.rollout == "" || a.owners.of(ctx, a.manager, e.Update) == want.rollout)
	}
}

// encoded counts the events that were encoded, for tests.
var encoded atomic.Uint64

// appendEvents appends events as a stream shows them, and where each one ends.
func appendEvents(b []byte, ends []int, events []firmware.Event) ([]byte, []int, error) {
	for i := range events {
		e := &events[i]
		if e.Name != firmware.EventProgress {
			b = append(strconv.AppendUint(append(b, "id: "...), e.Seq, 10), '\n')
		}
		var err error
		if b, err = eventjson.Append(append(b, "data: "...), &e.Event, e.Progress); err != nil {
			return b, ends, err
		}
		b = append(b, "\n\n"...)
		ends = append(ends, len(b))
	}
	encoded.Add(uint64(len(events)))
	return b, ends, nil
}

// texts keeps the text of the latest batches of events, so that each event is encoded once for all
// streams: the manager gives all of them the same batches, and a stream of some events gets parts
// of the text.
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
	ends  []int  // where each event ends
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
		e.text, e.ends, e.err = appendEvents(b, make([]int, 0, len(events)), events)
	})
	return e
}

// selected returns a copy of the text of the events that are selected.
func (e *streamText) selected(events []firmware.Event, selects func(*firmware.Event) bool) (text []byte) {
	begin := 0
	for i, end := range e.ends {
		if selects(&events[i]) {
			text = append(text, e.text[begin:end]...)
		}
		begin = end
	}
	return text
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
