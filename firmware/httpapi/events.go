package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/internal/door"
	"github.com/otago-iot/otago/store"
)

// streamEvents sends the journal as server-sent events. A slow client delays no other: the journal
// is durable, so each stream reads it at its own pace. The server drops a client that accepts
// nothing for a heartbeat.
func (a *api) streamEvents(w http.ResponseWriter, r *http.Request, req request) error {
	after, err := resumeAfter(r, req.query)
	if err != nil {
		return err
	}
	leave, err := a.streams.enter(r)
	if err != nil {
		return err
	}
	defer leave()
	w, r, done := door.Limit(w, r, a.config.Heartbeat)
	defer done()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy must not buffer events
	s := &stream{w: w, control: http.NewResponseController(w)}
	if err := s.control.Flush(); errors.Is(err, http.ErrNotSupported) { // it sends the header
		return fmt.Errorf("httpapi: a middleware keeps events from being sent: %w", err)
	}
	if r.Method == http.MethodHead {
		return nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	again := func() error { return a.guard.again(r, req.access) }
	err = s.run(ctx, a.selectEvents(ctx, after, req.query), a.config.Heartbeat, again)
	if err != nil && ctx.Err() == nil {
		a.config.Logger.Info("event stream ended", "remote", r.RemoteAddr, "error", err)
	}
	return nil // the status has been sent
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

// item is an event, or the error that ends the stream.
type item struct {
	event firmware.Event
	err   error
}

// selectEvents sends the events that the query selects, until ctx ends.
func (a *api) selectEvents(ctx context.Context, after uint64, q query) <-chan item {
	update, endpoint := q.get("update"), q.get("endpoint")
	items := make(chan item)
	go func() {
		defer close(items)
		for event, err := range a.manager.Events(ctx, after) {
			if errors.Is(err, store.ErrDamaged) {
				a.config.Logger.Error("a line of the journal is not sent", "error", err)
				continue
			}
			if err == nil && (update != "" && event.Update != update || endpoint != "" && event.Endpoint != endpoint) {
				continue
			}
			select {
			case items <- item{event, err}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return items
}

// stream writes server-sent events.
type stream struct {
	w       io.Writer
	control *http.ResponseController
}

// run sends items until the channel is closed or ctx ends. At each heartbeat it checks the access
// with again, and ends on its error.
func (s *stream) run(ctx context.Context, items <-chan item, heartbeat time.Duration, again func() error) error {
	// The first line shows the client that it is connected, and how long to wait before it
	// reconnects.
	if err := s.write([]byte("retry: 2000\n\n")); err != nil {
		return err
	}
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case item, ok := <-items:
			if !ok {
				return nil
			}
			if item.err != nil {
				return item.err
			}
			text, err := encodeEvent(item.event)
			if err != nil {
				return err
			}
			if err := s.write(text); err != nil {
				return err
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

// write sends one event. It fails if the client does not accept it in time.
func (s *stream) write(text []byte) error {
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.control.Flush()
}

func encodeEvent(event firmware.Event) ([]byte, error) {
	data, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	if event.Name == firmware.EventProgress {
		return fmt.Appendf(nil, "data: %s\n\n", data), nil
	}
	return fmt.Appendf(nil, "id: %d\ndata: %s\n\n", event.Seq, data), nil
}

// streams counts the event streams that are open.
type streams struct {
	most int

	mu   sync.Mutex
	open int
	by   map[client]int
}

// A client identifies the owner of a share of the event streams. Clients behind one proxy have the
// same address, and clients may have the same token, so it needs both.
type client struct {
	from    netip.Prefix
	bearing string
}

// share is the number by which the streams are divided to get the share of one client.
const share = 4

// enter counts the stream of a request until the caller calls leave.
func (s *streams) enter(r *http.Request) (leave func(), err error) {
	scheme, credentials, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	c := client{door.SourceOf(r.RemoteAddr), strings.ToLower(scheme) + " " + strings.TrimSpace(credentials)}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.open >= s.most:
		return nil, newProblem(http.StatusServiceUnavailable, "unavailable", "too many event streams are open")
	case s.by[c] >= max(1, s.most/share):
		return nil, newProblem(http.StatusTooManyRequests, "too-many", "this client has as many event streams open as one may have")
	}
	if s.by == nil {
		s.by = make(map[client]int)
	}
	s.open++
	s.by[c]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.open--
		if s.by[c]--; s.by[c] == 0 {
			delete(s.by, c)
		}
	}, nil
}
