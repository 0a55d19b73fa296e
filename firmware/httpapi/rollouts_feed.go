package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/otago-iot/otago/store"
)

const (
	lookPause    = time.Second // between two looks at the journal of a rollout
	maxFeed      = 256 << 10   // bytes of lines that a feed keeps
	linesAtOnce  = 100         // that are read
	lineOverhead = 64          // bytes of a kept line beside its text
)

// journals are the journals of rollouts that streams follow.
type journals struct {
	mu sync.Mutex
	by map[string]*journal
}

// A journal is that of a rollout. It is looked at once a second, and each new line is read and
// encoded once for all streams; a stream reads by itself what is older than the lines kept here.
type journal struct {
	users int // guarded by journals.mu
	stop  context.CancelFunc

	mu    sync.Mutex
	lines []encodedLine // the newest up to last, none left out
	bytes int
	last  uint64        // number of the last line that is known
	over  *chunk        // nil while it is read
	news  chan struct{} // closed when there is more
}

type encodedLine struct {
	seq  uint64
	text []byte
}

// join returns the journal of a rollout, which had last lines when the caller looked. The caller
// calls leave at the end.
func (a *api) join(id string, last uint64) (j *journal, leave func()) {
	all := &a.journals
	all.mu.Lock()
	defer all.mu.Unlock()
	j = all.by[id]
	if j == nil {
		if all.by == nil {
			all.by = make(map[string]*journal)
		}
		ctx, cancel := context.WithCancel(context.Background())
		j = &journal{stop: cancel, last: last, news: make(chan struct{})}
		all.by[id] = j
		go a.readJournal(ctx, id, j)
	}
	j.users++
	return j, func() {
		all.mu.Lock()
		defer all.mu.Unlock()
		if j.users--; j.users == 0 {
			j.stop()
			all.forget(id, j)
		}
	}
}

// forget makes the next stream read the journal again. journals.mu is held.
func (s *journals) forget(id string, j *journal) {
	if s.by[id] == j {
		delete(s.by, id)
	}
}

// readJournal looks for new lines until the rollout is deleted, or the store fails.
func (a *api) readJournal(ctx context.Context, id string, j *journal) {
	ticker := time.NewTicker(lookPause)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		over := a.lookAtJournal(ctx, id, j)
		if over == nil {
			continue
		}
		a.journals.mu.Lock()
		a.journals.forget(id, j)
		a.journals.mu.Unlock()
		j.add(nil, over)
		return
	}
}

// lookAtJournal adds the new lines. It returns how the journal is over, nil if it is not.
func (a *api) lookAtJournal(ctx context.Context, id string, j *journal) *chunk {
	of, err := a.rollouts.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		text, err := eventOf("end", newProblem(http.StatusNotFound, "not-found", "the rollout was deleted").Document)
		return &chunk{text: text, err: err}
	}
	for err == nil && j.last < of.Lines { // only this goroutine changes last
		var lines []encodedLine
		if lines, err = a.encodeLines(ctx, id, j.last); len(lines) == 0 {
			break
		}
		j.add(lines, nil)
	}
	if err != nil {
		return &chunk{err: err}
	}
	return nil
}

// encodeLines reads and encodes some lines after a number. A line that is damaged is a gap.
func (a *api) encodeLines(ctx context.Context, id string, after uint64) (lines []encodedLine, err error) {
	for e, failed := range a.rollouts.Events(ctx, store.RolloutEventQuery{Rollout: id, After: after, Limit: linesAtOnce}) {
		text := fmt.Appendf(nil, "id: %d\n", e.Seq)
		switch {
		case errors.Is(failed, store.ErrDamaged):
			text = fmt.Appendf(text, "event: gap\ndata: {\"after\": %d, \"deleted\": %d}\n\n", e.Seq-1, e.Seq)
		case failed != nil:
			return lines, failed
		default:
			event, wrong := eventOf("", viewLine(e))
			if wrong != nil {
				return lines, wrong
			}
			text = append(text, event...)
		}
		lines = append(lines, encodedLine{e.Seq, text})
		encoded.Add(1)
	}
	return lines, nil
}

// add adds lines, or that the journal is over, and wakes the streams.
func (j *journal) add(lines []encodedLine, over *chunk) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = over
	for _, l := range lines {
		j.lines, j.last = append(j.lines, l), l.seq
		j.bytes += len(l.text) + lineOverhead
	}
	for j.bytes > maxFeed && len(j.lines) > 0 {
		j.bytes -= len(j.lines[0].text) + lineOverhead
		j.lines = j.lines[1:]
	}
	close(j.news)
	j.news = make(chan struct{})
}

// since returns the text of lines after a number, and the number of the last of them. Without a
// text, read says that the stream has to read what there is up to that number, over that nothing
// follows, and news is closed when there is more.
func (j *journal) since(after uint64) (text []byte, last uint64, read bool, over *chunk, news <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if after >= j.last {
		return nil, after, false, j.over, j.news
	}
	switch {
	case len(j.lines) == 0:
		return nil, j.last, true, nil, nil
	case j.lines[0].seq > after+1:
		return nil, j.lines[0].seq - 1, true, nil, nil
	}
	for _, l := range j.lines {
		if l.seq > after && len(text) < maxPiece {
			text, after = append(text, l.text...), l.seq
		}
	}
	return text, after, false, nil, nil
}

// rolloutLines sends the lines of a journal after a number, until ctx ends or the rollout is
// deleted.
func (a *api) rolloutLines(ctx context.Context, id string, after, known uint64) <-chan chunk {
	chunks := make(chan chunk)
	go func() {
		defer close(chunks)
		j, leave := a.join(id, known)
		defer leave()
		for {
			text, last, read, over, news := j.since(after)
			c := chunk{text: text}
			if over != nil {
				c = *over
			}
			if read {
				var lines []encodedLine
				lines, c.err = a.encodeLines(ctx, id, after)
				for _, l := range lines {
					c.text, last = append(c.text, l.text...), l.seq
				}
			}
			after = last
			if len(c.text) > 0 || c.err != nil {
				select {
				case chunks <- c:
				case <-ctx.Done():
					return
				}
			}
			if over != nil || c.err != nil {
				return
			}
			if news == nil {
				continue
			}
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
		}
	}()
	return chunks
}
