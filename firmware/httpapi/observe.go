package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// notificationView is the data of an event of an observation.
type notificationView struct {
	Time   time.Time   `json:"time"` // when it came
	Values []valueView `json:"values"`
}

// observeResources sends the present values, and those of each notification, as server-sent events.
// The stream ends with the observation. A client that does not read gets the newest notifications
// once it reads, and is dropped after a heartbeat.
func (a *api) observeResources(w http.ResponseWriter, r *http.Request, req request, observe lwm2m.Request) error {
	timeout, err := req.query.timeout(true)
	if err != nil {
		return err
	}
	if observe.Format, err = req.query.format(); err != nil {
		return err
	}
	leaveStream, err := a.enterStream(r, req.endpoint)
	if err != nil {
		return err
	}
	defer leaveStream()
	leave, err := a.asked.enter(r, req.endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	observe.Endpoint = req.endpoint
	viewer := a.watches.join(ctx, a.manager.Do, observe)
	defer viewer.leave()
	err = viewer.begun(ctx, timeout)
	leave() // the observation counts as a stream: it holds up no requests to the device
	if err != nil {
		return err
	}
	s, r, done, err := a.openStream(w, r)
	defer done()
	if err != nil || r.Method == http.MethodHead {
		return err
	}
	again := func() error { return a.guard.again(r, req.access) }
	chunks := a.notifications(ctx, viewer, a.modelsOf(req.endpoint))
	if err := s.run(ctx, chunks, nil, a.config.Heartbeat, again); err != nil && ctx.Err() == nil {
		a.config.Logger.Info("observation ended", "remote", r.RemoteAddr, "endpoint", req.endpoint, "error", err)
	}
	return nil // the status has been sent
}

// notifications returns the texts of notifications, and at last the reason why the observation has
// ended.
func (a *api) notifications(ctx context.Context, v *viewer, m *models) <-chan chunk {
	chunks := make(chan chunk)
	send := func(name string, data any) bool {
		text, err := eventOf(name, data)
		select {
		case chunks <- chunk{text: text, err: err}:
			return true
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(chunks)
		for ended := false; !ended; {
			select {
			case <-v.news:
			case <-v.watch.observation.Done():
				ended = true
			case <-ctx.Done():
				return
			}
			for n, ok := v.next(); ok; n, ok = v.next() {
				if !send("", notificationView{instant(n.time), viewValues(n.entries, m).Values}) {
					return
				}
			}
		}
		send("end", a.document(deviceProblem(v.watch.observation.Err(), 0)))
	}()
	return chunks
}

// eventOf returns a server-sent event. Without a name it is a message.
func eventOf(name string, data any) ([]byte, error) {
	text := []byte("data: ")
	if name != "" {
		text = []byte("event: " + name + "\ndata: ")
	}
	body, err := marshal(data) // one line
	return append(append(text, body...), '\n'), err
}
