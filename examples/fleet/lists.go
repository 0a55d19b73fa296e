package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/otago-iot/otago/store"
)

// pages says how long the pages of a list took.
type pages struct {
	Query   string // path and parameters, with IMAGE and ENDPOINT
	Pages   int
	Items   int
	Slowest time.Duration
}

// pageLists are the lists whose pages are timed. IMAGE stands for the id of the image of the ended
// updates, ENDPOINT for an endpoint that has none.
var pageLists = []string{
	"updates", "updates?outcome=succeeded", "updates?outcome=cancelled", "updates?state=downloading",
	"updates?image=IMAGE", "updates?endpoint=ENDPOINT", "updates?label=site%3Drare", "updates?label=site%3Dnowhere",
	"updates?order=ended&outcome=succeeded", "updates?order=ended&outcome=succeeded&label=site%3Drare", "devices", "images",
}

// maxPages is how many pages of a list are timed.
const maxPages = 20

// timePages times the first pages of each list over HTTP, after it has added ended updates to the
// store.
func (m *measurement) timePages(ctx context.Context) ([]pages, error) {
	var image string
	if err := m.server.ask(ctx, command{Ended: m.o.ended}, &image); err != nil {
		return nil, err
	}
	var all []pages
	for _, query := range pageLists {
		p := pages{Query: query}
		query = strings.Replace(query, "IMAGE", image, 1)
		for cursor, more := "", true; more && p.Pages < maxPages; p.Pages++ {
			begin := time.Now()
			n, next, err := m.page(ctx, query, cursor)
			if err != nil {
				return nil, err
			}
			p.Items += n
			p.Slowest = max(p.Slowest, time.Since(begin))
			cursor, more = next, next != ""
		}
		all = append(all, p)
	}
	return all, nil
}

// page gets a page of a list, and returns how many items it has, and the cursor of the next.
func (m *measurement) page(ctx context.Context, query, cursor string) (n int, next string, err error) {
	u, err := url.Parse("http://" + m.ready.HTTP + "/api/v1/" + query)
	if err != nil {
		return 0, "", err
	}
	q := u.Query()
	q.Set("limit", "1000") // the most that there are
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	u.RawQuery = q.Encode()
	body, err := get(ctx, u.String())
	if err != nil {
		return 0, "", err
	}
	defer body.Close()
	var page struct {
		Items []json.RawMessage
		Next  string
	}
	err = json.NewDecoder(body).Decode(&page)
	return len(page.Items), page.Next, err
}

// get makes a request to the API of the server.
func get(ctx context.Context, u string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		problem, _ := io.ReadAll(io.LimitReader(response.Body, 1000)) // what there is of it
		return nil, fmt.Errorf("GET %s: %s: %s", u, response.Status, problem)
	}
	return response.Body, nil
}

// follow reads the event stream of the server until the returned function is called. It begins
// after the last event there is, as a follower that is connected, or with -history before the
// first.
func (m *measurement) follow(ctx context.Context) (stop func(), err error) {
	var state stateReport
	if err := m.server.ask(ctx, command{State: true}, &state); err != nil {
		return nil, err
	}
	if m.o.history {
		state.Last = 0
	}
	ctx, cancel := context.WithCancel(ctx)
	body, err := get(ctx, fmt.Sprintf("http://%s/api/v1/events?after=%d", m.ready.HTTP, state.Last))
	if err != nil {
		cancel()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, body) // ends with ctx
	}()
	return func() {
		cancel()
		<-done
		body.Close()
	}, nil
}

// addEnded adds n ended updates to the store, ten of each endpoint, and returns the id of their
// image. They are copies of one that has ended, and older than all others.
func (s *server) addEnded(ctx context.Context, n int) (image string, err error) {
	var template store.Update
	for u, err := range s.manager.List(ctx, store.UpdateQuery{Limit: 1, Filter: func(u store.Update) bool { return !u.Active() }}) {
		if err != nil {
			return "", err
		}
		template = u
	}
	if template.ID == "" {
		return "", errors.New("no update has ended")
	}
	template.Key, template.Revision, template.Tokens = "", 0, nil
	var changes []store.Change
	for i := range n {
		u := template
		u.ID, u.Endpoint = fmt.Sprintf("%026d", i), fmt.Sprintf("ended-%06d", i/10)
		if i%10_000 == 0 {
			u.Labels = map[string]string{"site": "rare"}
		}
		changes = append(changes, store.CreateUpdate{Update: u})
		if len(changes) == 1000 || i == n-1 {
			if _, err := s.db.Store.Commit(ctx, changes...); err != nil {
				return "", err
			}
			changes = nil
		}
	}
	return template.Image, nil
}
