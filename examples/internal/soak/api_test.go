//go:build unix

package soak_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// operator uses the API of a server that is killed repeatedly. It repeats requests that were not
// answered.
type operator struct {
	base   string
	client http.Client
}

// update is an update as the API returns it.
type update struct {
	ID, Endpoint, Version, Phase, State, Outcome, Reason string
	OldVersion                                           string `json:"old_version"`
	Result                                               struct {
		Code int
		Name string
	}
	Attempt int
	Created time.Time
	Ended   *time.Time
	Journal []struct {
		Time          time.Time
		Event, Detail string
	}
}

func (u update) took() time.Duration { return u.Ended.Sub(u.Created) }

func (u update) story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s -> %s: %q %s (%s), %s", u.Endpoint, u.OldVersion, u.Version, u.Outcome, u.Result.Name, u.Reason, u.Phase)
	for _, line := range u.Journal {
		fmt.Fprintf(&b, "\n  %s %s: %s", line.Time.Format("15:04:05.000"), line.Event, line.Detail)
	}
	return b.String()
}

// patience is how long a killed server may take to answer again.
const patience = 40 * time.Second

// call repeats a request until the server answers.
func (o *operator) call(t *testing.T, method, path string, header map[string]string, body []byte, answer any) int {
	t.Helper()
	for limit := time.Now().Add(patience); ; {
		status, err := o.once(t.Context(), method, path, header, body, answer)
		if err == nil {
			return status
		}
		if time.Now().After(limit) || t.Context().Err() != nil {
			require.NoError(t, err, "no answer to %s %s", method, path)
		}
		pause(t.Context(), 50*time.Millisecond)
	}
}

func (o *operator) once(ctx context.Context, method, path string, header map[string]string, body []byte, answer any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, o.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for name, value := range header {
		r.Header.Set(name, value)
	}
	response, err := o.client.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err
	}
	if response.StatusCode >= http.StatusInternalServerError {
		return 0, fmt.Errorf("%s: %s", response.Status, data)
	}
	return response.StatusCode, json.Unmarshal(data, answer)
}

func (o *operator) upload(t *testing.T, name, version string, content []byte) (id string) {
	t.Helper()
	var image struct{ ID, Detail string }
	status := o.call(t, http.MethodPost, "/images?name="+name+"&version="+version,
		map[string]string{"Content-Type": "application/octet-stream"}, content, &image)
	require.Equal(t, http.StatusCreated, status, image.Detail)
	return image.ID
}

// start starts an update with an idempotency key, so that a repetition is harmless. A 409 returns
// no update.
func (o *operator) start(t *testing.T, key string, request map[string]any) (u update, ok bool) {
	t.Helper()
	body, err := json.Marshal(request)
	require.NoError(t, err)
	var answer struct {
		update
		Detail string
	}
	status := o.call(t, http.MethodPost, "/updates",
		map[string]string{"Content-Type": "application/json", "Idempotency-Key": key}, body, &answer)
	if status == http.StatusConflict {
		return update{}, false
	}
	require.Equal(t, http.StatusCreated, status, answer.Detail)
	return answer.update, true
}

func (o *operator) get(t *testing.T, id string) (u update) {
	t.Helper()
	status := o.call(t, http.MethodGet, "/updates/"+id, nil, nil, &u)
	require.Equal(t, http.StatusOK, status)
	return u
}

func (o *operator) cancel(t *testing.T, id string) {
	t.Helper()
	var u update
	status := o.call(t, http.MethodPost, "/updates/"+id+"/cancel", nil, nil, &u)
	require.Contains(t, []int{http.StatusOK, http.StatusConflict}, status)
}

// all lists the updates, page by page.
func (o *operator) all(t *testing.T, filter string) (list []update) {
	t.Helper()
	for path := "/updates?limit=7" + filter; ; {
		var page struct {
			Items []update
			Next  string
		}
		status := o.call(t, http.MethodGet, path, nil, nil, &page)
		require.Equal(t, http.StatusOK, status)
		list = append(list, page.Items...)
		if page.Next == "" {
			return list
		}
		path = "/updates?limit=7" + filter + "&cursor=" + page.Next
	}
}

// watcher follows the event stream across restarts of the server.
type watcher struct {
	mu    sync.Mutex
	last  uint64
	ends  map[string]int // by update
	wrong string
}

func (w *watcher) follow(ctx context.Context, o *operator) {
	for ctx.Err() == nil {
		_ = w.stream(ctx, o) // ends with the server
		pause(ctx, 100*time.Millisecond)
	}
}

func (w *watcher) stream(ctx context.Context, o *operator) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, o.base+"/events", nil)
	if err != nil {
		return err
	}
	w.mu.Lock()
	r.Header.Set("Last-Event-ID", strconv.FormatUint(w.last, 10))
	w.mu.Unlock()
	response, err := o.client.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	id, named := uint64(0), false
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id, err = strconv.ParseUint(value, 10, 64)
		case "event": // no line of the journal, such as that which says where the stream begins
			named = true
		case "data":
			if id != 0 && !named {
				err = w.event(id, value)
			}
			id, named = 0, false
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *watcher) event(id uint64, data string) error {
	var event struct {
		Seq            uint64
		Update, Event  string
		Outcome, State string
		Result         struct{ Name string }
	}
	if err := json.Unmarshal([]byte(data), &event); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if id <= w.last || event.Seq != id {
		w.wrong = fmt.Sprintf("event %d, seq %d, after %d", id, event.Seq, w.last)
	}
	w.last = id
	if event.Outcome != "" && event.Event == event.Outcome {
		w.ends[event.Update]++
		if event.State != "idle" || event.Result.Name == "default" {
			w.wrong = "an end in state " + event.State + ", result " + event.Result.Name
		}
	}
	return nil
}

func (w *watcher) ended(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends[id]
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
