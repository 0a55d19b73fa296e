package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	answerKept     = 10 * time.Minute // after which the answer to a request that was handed in is dropped
	maxAnswerBytes = 16 << 20         // of all answers that are kept
	maxUnsent      = 16               // events of answers that wait for a stream
)

// handedIn are the requests to devices whose clients do not wait for the answer.
type handedIn struct {
	most int

	mu        sync.Mutex
	byID      map[string]*handed
	answered  []*handed // the oldest first
	bytes     int       // of their answers
	followers map[*follower]struct{}
}

// A handed is one such request.
type handed struct {
	view   handedView
	cancel context.CancelCauseFunc
}

// handedView is a request as clients see it. Status and Answer are what a client that waits would
// have got.
type handedView struct {
	ID       string          `json:"id"`
	Endpoint string          `json:"endpoint"`
	Request  string          `json:"request"` // such as "GET /3/0/9"
	Created  time.Time       `json:"created"`
	Ended    *time.Time      `json:"ended"`  // null while it waits
	Status   int             `json:"status"` // 0 while it waits
	Answer   json.RawMessage `json:"answer"` // null while it waits, and without a body
}

// answerEvent is the data of an event that tells of an answer. It has no values: who may read
// events need not be allowed to read resources.
type answerEvent struct {
	Request  string    `json:"request"`
	Endpoint string    `json:"endpoint"`
	Time     time.Time `json:"time"`
	Status   int       `json:"status"`
}

// A follower is an event stream.
type follower struct {
	endpoint string // "" for all
	events   chan chunk
}

var errWithdrawn = errors.New("httpapi: the request was withdrawn")

// handIn makes a request to a device in the background, and answers with its id.
func (a *api) handIn(w http.ResponseWriter, r *http.Request, req request, t task, timeout time.Duration, leave func()) error {
	ctx, cancel := context.WithCancelCause(context.Background()) // without what the request holds
	h := &handed{cancel: cancel, view: handedView{
		ID: rand.Text(), Endpoint: req.endpoint, Request: r.Method + " " + req.path.String(), Created: instant(time.Now()),
	}}
	a.handedIn.add(h)
	view := h.view
	go func() {
		defer cancel(nil)
		defer leave()
		answer, err := a.do(ctx, t, timeout)
		var status int
		var body any
		if err == nil {
			status, body = t.show(answer)
		} else {
			p := a.document(err)
			status, body = p.Status, p
		}
		var text json.RawMessage
		if body != nil {
			text, _ = marshal(body)
		}
		a.handedIn.end(h, status, text)
	}()
	_, path, _ := strings.Cut(r.URL.EscapedPath(), base) // in which the path of LwM2M may begin with a slash
	w.Header().Set("Location", strings.Repeat("../", strings.Count(path, "/")-2)+"requests/"+view.ID)
	return writeJSON(w, http.StatusAccepted, view)
}

func (h *handedIn) add(r *handed) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prune(time.Now())
	if h.byID == nil {
		h.byID = make(map[string]*handed)
	}
	h.byID[r.view.ID] = r
}

// end records an answer, and tells the event streams.
func (h *handedIn) end(ended *handed, status int, answer json.RawMessage) {
	now := instant(time.Now())
	h.mu.Lock()
	defer h.mu.Unlock()
	ended.view.Ended, ended.view.Status, ended.view.Answer = &now, status, answer
	h.answered = append(h.answered, ended)
	h.bytes += len(answer)
	h.prune(now)
	v := &ended.view
	text, err := eventOf("answer", answerEvent{v.ID, v.Endpoint, now, status})
	if err != nil {
		return
	}
	for f := range h.followers {
		if f.endpoint != "" && f.endpoint != v.Endpoint {
			continue
		}
		select {
		case f.events <- chunk{text: text}:
		default: // the client is slow; the answer is kept for it
		}
	}
}

// prune drops the oldest answers, as far as they are too old or too many. h.mu is held.
func (h *handedIn) prune(now time.Time) {
	for len(h.answered) > 0 {
		oldest := h.answered[0]
		if len(h.answered) <= h.most && h.bytes <= maxAnswerBytes && now.Sub(*oldest.view.Ended) < answerKept {
			return
		}
		h.answered[0] = nil
		h.answered = h.answered[1:]
		h.bytes -= len(oldest.view.Answer)
		delete(h.byID, oldest.view.ID)
	}
}

// get returns a request of a device.
func (h *handedIn) get(endpoint, id string) (handedView, *handed, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prune(time.Now())
	found := h.byID[id]
	if found == nil || found.view.Endpoint != endpoint {
		return handedView{}, nil, newProblem(http.StatusNotFound, "not-found", "there is no request of that id: answers are kept for 10 minutes")
	}
	return found.view, found, nil
}

// follow returns the events of answers of an endpoint, "" for all, until stop is called.
func (h *handedIn) follow(endpoint string) (events <-chan chunk, stop func()) {
	f := &follower{endpoint: endpoint, events: make(chan chunk, maxUnsent)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.followers == nil {
		h.followers = make(map[*follower]struct{})
	}
	h.followers[f] = struct{}{}
	return f.events, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.followers, f)
	}
}

func (a *api) getRequest(w http.ResponseWriter, _ *http.Request, req request) error {
	view, _, err := a.handedIn.get(req.endpoint, req.handedIn)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, view)
}

// deleteRequest ends a request that waits. To end one that has ended is no error.
func (a *api) deleteRequest(w http.ResponseWriter, _ *http.Request, req request) error {
	_, found, err := a.handedIn.get(req.endpoint, req.handedIn)
	if err != nil {
		return err
	}
	found.cancel(errWithdrawn)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
