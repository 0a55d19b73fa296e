package httpapi

import (
	"context"
	"net/http"
	"strconv"

	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/store"
)

// rolloutEvents answers with a page of the journal of a rollout, or sends it as server-sent events
// if the client accepts those.
func (a *api) rolloutEvents(w http.ResponseWriter, r *http.Request, req request) error {
	if _, _, err := resumeAfter(r, req.query); err != nil {
		return err
	}
	of, err := a.rollouts.Get(r.Context(), req.rollout)
	if err != nil {
		return err
	}
	if wantsStream(r) {
		return a.streamRollout(w, r, req, of)
	}
	if req.query.has("after") && req.query.has("cursor") {
		return invalidQuery("after", "a page begins after a line or at a cursor, not both")
	}
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	q := store.RolloutEventQuery{Rollout: req.rollout, Limit: limit + 1}
	after, err := req.query.cursor("lines")
	if err != nil {
		return err
	}
	if after != "" {
		if q.After, err = strconv.ParseUint(after, 10, 64); err != nil {
			return invalidQuery("cursor", "cursor is not the next of a page of this list")
		}
	} else if at := req.query.get("after"); at == "end" {
		q.After = of.Lines
	} else if req.query.has("after") {
		if q.After, err = strconv.ParseUint(at, 10, 64); err != nil {
			return invalidQuery("after", "after must be the number of a line, or end")
		}
	}
	key := func(e rollout.Event) string { return strconv.FormatUint(e.Seq, 10) }
	return writePage(w, limit, "lines", a.rollouts.Events(r.Context(), q), key, viewLine)
}

// streamRollout sends the journal of a rollout, and each line that comes.
func (a *api) streamRollout(w http.ResponseWriter, r *http.Request, req request, of rollout.Rollout) error {
	after, end, err := resumeAfter(r, req.query)
	if err != nil {
		return err
	}
	if end {
		after = of.Lines
	}
	if err := checkPosition(after, of.Lines); err != nil {
		return err
	}
	first, err := a.begin(after, store.Span{Last: of.Lines})
	if err != nil {
		return err
	}
	return a.streamJournal(w, r, req, feed{first: first, lines: func(ctx context.Context) <-chan chunk {
		return a.rolloutLines(ctx, req.rollout, after, of.Lines)
	}})
}
