package httpapi

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

const (
	traceKept = 10 * time.Minute // after its end
	maxTraced = 4                // traces that are kept after their end
)

// traces are the traces of devices that run, and the latest that have ended.
type traces struct {
	mu   sync.Mutex
	list []*lwm2m.Trace // one of a device; the oldest first
}

// add keeps a trace, in place of an earlier one of its device.
func (t *traces) add(trace *lwm2m.Trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []*lwm2m.Trace{trace}
	ended := 0
	for i := len(t.list) - 1; i >= 0; i-- { // the newest first
		old := t.list[i]
		at, _ := old.Ended()
		if !at.IsZero() {
			ended++
		}
		if old.Endpoint != trace.Endpoint && (at.IsZero() || ended <= maxTraced && time.Since(at) < traceKept) {
			list = append([]*lwm2m.Trace{old}, list...)
		}
	}
	t.list = list
}

// of returns the trace of a device.
func (t *traces) of(endpoint string) (*lwm2m.Trace, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, trace := range t.list {
		if at, _ := trace.Ended(); trace.Endpoint == endpoint && (at.IsZero() || time.Since(at) < traceKept) {
			return trace, nil
		}
	}
	return nil, newProblem(http.StatusNotFound, "not-found", "the device has no trace: POST begins one, which is kept for 10 minutes after its end")
}

// traceBody is the body that begins a trace. What is absent or 0 has its default.
type traceBody struct {
	Seconds  float64 `json:"seconds"`
	Messages int     `json:"messages"`
	Bytes    int     `json:"bytes"`
}

// traceView is a trace, perhaps with its messages.
type traceView struct {
	Endpoint string         `json:"endpoint"`
	Started  time.Time      `json:"started"`
	Until    time.Time      `json:"until"`
	Ended    *time.Time     `json:"ended"` // null while it runs
	Reason   string         `json:"end_reason"`
	Count    int            `json:"count"`
	Messages *[]tracedEntry `json:"messages,omitempty"`
}

// tracedEntry is a message, or something else that has happened to the device.
type tracedEntry struct {
	N         int            `json:"n"`
	Time      time.Time      `json:"time"`
	Direction string         `json:"direction"` // in, out
	Kind      string         `json:"kind"`
	Transport string         `json:"transport"`
	Remote    string         `json:"remote"`
	Local     string         `json:"local"` // "" if it is not known
	Type      string         `json:"type"`
	Code      string         `json:"code"` // "" if it is no message
	Name      string         `json:"name"`
	MessageID *uint16        `json:"message_id"` // null over TCP and TLS
	Token     string         `json:"token"`
	Options   []tracedOption `json:"options"`
	Bytes     int            `json:"bytes"`
	Format    string         `json:"format"`
	Payload   string         `json:"payload"`
	Cut       bool           `json:"cut"`
	Note      string         `json:"note"`
}

type tracedOption struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func viewTrace(t *lwm2m.Trace) traceView {
	v := traceView{Endpoint: t.Endpoint, Started: instant(t.Began), Until: instant(t.Until), Count: t.Len()}
	at, reason := t.Ended()
	v.Ended, v.Reason = moment(at), reason
	return v
}

func viewTraced(e *lwm2m.TraceEntry) tracedEntry {
	v := tracedEntry{
		N: e.N, Time: instant(e.Time), Direction: "out", Kind: e.Kind, Transport: e.Transport.String(), Type: e.Type, Name: e.Name,
		Token: hex.EncodeToString(e.Token), Options: []tracedOption{}, Bytes: e.Size, Format: e.Format, Payload: e.Payload, Cut: e.Cut, Note: e.Note,
	}
	if e.In {
		v.Direction = "in"
	}
	if e.Remote.IsValid() {
		v.Remote = e.Remote.String()
	}
	if e.Local.IsValid() {
		v.Local = e.Local.String()
	}
	if e.Size > 0 {
		v.Code = e.Code.String()
	}
	if e.Type != "" {
		v.MessageID = &e.MessageID
	}
	for _, o := range e.Options {
		v.Options = append(v.Options, tracedOption(o))
	}
	return v
}

// startTrace begins a trace of a device, which need not be registered.
func (a *api) startTrace(w http.ResponseWriter, r *http.Request, req request) error {
	var body traceBody
	if err := readJSON(w, r, &body); err != nil {
		return err
	}
	switch {
	case body.Seconds < 0 || body.Seconds > 600:
		return invalidField("seconds", "must be from 0 to 600")
	case body.Messages < 0 || body.Messages > 5000:
		return invalidField("messages", "must be from 0 to 5000")
	case body.Bytes < 0 || body.Bytes > 8<<20:
		return invalidField("bytes", "must be from 0 to 8388608")
	}
	trace, err := a.manager.Trace(req.endpoint, lwm2m.TraceConfig{
		Duration: time.Duration(body.Seconds * float64(time.Second)), Messages: body.Messages, Bytes: body.Bytes,
	})
	switch {
	case errors.Is(err, lwm2m.ErrTraced):
		return newProblem(http.StatusConflict, "conflict", "the device is being traced: GET shows the trace, and DELETE ends it")
	case errors.Is(err, lwm2m.ErrTooManyTraces):
		return newProblem(http.StatusServiceUnavailable, "unavailable", "as many devices are traced as may be at once: each trace ends by itself")
	case err != nil:
		return err
	}
	a.traces.add(trace)
	w.Header().Set("Location", "trace") // relative to this path
	return writeJSON(w, http.StatusCreated, viewTrace(trace))
}

// stopTrace ends a trace. What it has can still be read.
func (a *api) stopTrace(w http.ResponseWriter, _ *http.Request, req request) error {
	trace, err := a.traces.of(req.endpoint)
	if err != nil {
		return err
	}
	trace.Stop()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getTrace answers with what a trace has, or sends it as server-sent events until it ends.
func (a *api) getTrace(w http.ResponseWriter, r *http.Request, req request) error {
	trace, err := a.traces.of(req.endpoint)
	if err != nil {
		return err
	}
	after, end, err := resumeAfter(r, req.query)
	if err != nil {
		return err
	}
	if end {
		after = uint64(trace.Len())
	}
	if after > uint64(trace.Len()) {
		return checkPosition(after, uint64(trace.Len()))
	}
	if !wantsStream(r) {
		view := viewTrace(trace)
		list := []tracedEntry{}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		if int(after) < view.Count { // else Entries would wait for one more
			for e := range trace.Entries(ctx, int(after)) {
				if list = append(list, viewTraced(&e)); e.N >= view.Count {
					break
				}
			}
		}
		view.Messages = &list
		return writeJSON(w, http.StatusOK, view)
	}
	return a.streamJournal(w, r, req, feed{lines: func(ctx context.Context) <-chan chunk { return traceLines(ctx, trace, int(after)) }})
}

// traceLines sends the entries of a trace after a number, and at its end what it is without them.
func traceLines(ctx context.Context, trace *lwm2m.Trace, after int) <-chan chunk {
	chunks := make(chan chunk)
	go func() {
		defer close(chunks)
		send := func(name string, id int, data any) bool {
			text, err := eventOf(name, data)
			if id > 0 {
				text = append([]byte("id: "+strconv.Itoa(id)+"\n"), text...)
			}
			select {
			case chunks <- chunk{text: text, err: err}:
				return err == nil
			case <-ctx.Done():
				return false
			}
		}
		for e := range trace.Entries(ctx, after) {
			if !send("", e.N, viewTraced(&e)) {
				return
			}
		}
		if ctx.Err() == nil {
			send("end", 0, viewTrace(trace))
		}
	}()
	return chunks
}
