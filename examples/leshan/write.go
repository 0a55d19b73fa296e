package leshan

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// patience is how long a request that changes a device stays open.
const patience = 10 * time.Minute

// A write is a request of Django that changes a device. It goes on when the caller leaves, and
// equal requests join it.
type write struct {
	call    call
	request lwm2m.Request
	status  string // of success
	no      string
	key     string
	uri     string // the Package URI that it writes
	before  device // the device before it

	// done is closed when answer is set.
	done   chan struct{}
	answer reply
	// unknown says that the device has not answered, and may have done it: what it reports decides.
	unknown bool
	sent    *lwm2m.Call
	limit   *time.Timer
}

// change sends a request that changes the device, or joins an equal one that is under way or took
// effect, and waits for its answer. status is that of success; no is as in failure.
func (c call) change(r lwm2m.Request, status, no string) reply {
	r.Endpoint, r.NoWait = c.endpoint, true
	if touchesUpdate(r) {
		if id := c.config.Busy(c.endpoint); id != "" {
			return reply{status: http.StatusConflict, text: fmt.Sprintf("Conflict: update %s of this server is active on '%s'", id, c.endpoint)}
		}
	}
	w := c.join(r, status, no)
	if w == nil {
		return reply{status: http.StatusOK, json: success(status)}
	}
	var literal <-chan time.Time
	if c.config.Literal504 {
		timer := time.NewTimer(c.timeout())
		defer timer.Stop()
		literal = timer.C
	}
	select {
	case <-w.done:
		return w.answer
	case <-literal:
	case <-c.r.Context().Done():
	}
	return reply{status: http.StatusGatewayTimeout, text: "Request timeout"}
}

// touchesUpdate reports whether a request changes object 5.
func touchesUpdate(r lwm2m.Request) bool {
	return r.Path.Object() == 5 || slices.ContainsFunc(r.Entries, func(e lwm2m.Entry) bool { return e.Path.Object() == 5 })
}

// join returns the equal request that is under way, begins r if there is none, or returns nil if r
// took effect already.
func (c call) join(r lwm2m.Request, status, no string) *write {
	key := fmt.Sprintf("%s %v %v %x", c.endpoint, r.Operation, r.Path, sha256.Sum256(fmt.Append(nil, r.Entries, r.Arguments)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.writes[key]; w != nil {
		return w
	}
	d := c.device(c.endpoint)
	uri := ""
	if r.Path == uriPath && len(r.Entries) == 1 {
		uri, _ = r.Entries[0].Value.Text()
	}
	execute := r.Operation == lwm2m.OpExecute && r.Path == executePath
	if d.inEffect(uri, time.Now()) || execute && d.Executed {
		c.log.Info("a request of Django took effect before; it is not sent again", "endpoint", c.endpoint, "path", r.Path)
		return nil
	}
	w := &write{call: c, request: r, status: status, no: no, key: key, uri: uri, before: *d, done: make(chan struct{})}
	switch {
	case execute:
		d.Executed = true
	case r.Path == uriPath:
		// The device begins another download, and may report its State before it answers.
		d.URI, d.Written, d.Writing, d.Moved, d.Downloaded, d.Executed = uri, time.Now().Unix(), true, false, false, false
	}
	if execute || r.Path == uriPath {
		c.record(c.endpoint, d)
	}
	c.writes[key] = w
	w.limit = time.AfterFunc(patience, w.expire)
	go w.send(r) // Go of the server may block until it has loaded the registrations
	return w
}

// send sends a request. One with a format that the device does not take is sent once more in a
// format that suits the device.
func (w *write) send(r lwm2m.Request) {
	sent := w.call.server.Go(r, func(a lwm2m.Answer) {
		if r.Format != nil && errors.Is(a.Err, lwm2m.ErrUnsupportedFormat) && a.Err != nil {
			r.Format = nil
			w.send(r)
			return
		}
		w.answered(a)
	})
	w.call.mu.Lock()
	w.sent = sent
	w.call.mu.Unlock()
}

// answered takes the answer of the device.
func (w *write) answered(a lwm2m.Answer) {
	b := w.call.Bridge
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.writes[w.key] != w {
		return // it has ended
	}
	d := b.device(w.call.endpoint)
	var refused *lwm2m.ResponseError
	switch {
	case a.Err == nil:
		answer := success(w.status)
		if w.status == statusCreated {
			answer.Location = a.Path.String()[1:]
		}
		w.finish(d, reply{status: http.StatusOK, json: answer})
	case errors.Is(a.Err, lwm2m.ErrDeliveryUnknown) && (w.uri != "" || w.executes()):
		w.unknown = true
		b.log.Info("a device has not answered; its reports will say whether the request took effect",
			"endpoint", w.call.endpoint, "path", w.request.Path)
		b.settle(w.call.endpoint, d, false)
	case errors.As(a.Err, &refused), !errors.Is(a.Err, lwm2m.ErrDeliveryUnknown):
		if refused != nil && touchesUpdate(w.request) {
			b.log.Warn("a device has refused a request of Django, which takes the answer for a success",
				"endpoint", w.call.endpoint, "path", w.request.Path, "error", refused)
		}
		w.undo(d)
		w.finish(d, w.call.failure(w.request.Operation, a.Err, w.no))
	default:
		w.finish(d, w.call.failure(w.request.Operation, a.Err, w.no))
	}
}

func (w *write) executes() bool {
	return w.request.Operation == lwm2m.OpExecute && w.request.Path == executePath
}

// undo takes back what a request changed in the memory of the device, as far as nothing newer has
// changed it.
func (w *write) undo(d *device) {
	switch {
	case w.executes():
		d.Executed = false
	case w.request.Path == uriPath:
		if d.URI == w.uri {
			d.URI, d.Written, d.Executed = w.before.URI, w.before.Written, w.before.Executed
		}
		d.Downloaded = d.Downloaded || w.before.Downloaded && !d.Moved
		d.Moved = d.Moved || w.before.Moved
	}
}

// finish sets the answer. The caller holds mu.
func (w *write) finish(d *device, a reply) {
	b := w.call.Bridge
	if b.writes[w.key] != w {
		return
	}
	delete(b.writes, w.key)
	w.limit.Stop()
	if w.request.Path == uriPath {
		d.Writing = false
	}
	if w.executes() || w.request.Path == uriPath {
		b.record(w.call.endpoint, d)
	}
	w.answer = a
	close(w.done)
}

// expire ends a request that the device has not answered in time.
func (w *write) expire() {
	b := w.call.Bridge
	b.mu.Lock()
	sent := w.sent
	b.mu.Unlock()
	if sent != nil {
		sent.Cancel(lwm2m.ErrTimeout)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w.giveUp(b.device(w.call.endpoint))
}

// giveUp answers that the device did not answer. The caller holds mu.
func (w *write) giveUp(d *device) {
	if w.call.writes[w.key] == w {
		w.undo(d)
		w.finish(d, reply{status: http.StatusGatewayTimeout, text: "Request timeout"})
	}
}

// endWrites ends all requests, so that Django gets an answer before the process ends: it would
// never again send what got none. Whether one took effect is unknown, and what the device reports
// later will say it.
func (b *Bridge) endWrites() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.writes {
		d := b.device(w.call.endpoint)
		if d.Writing {
			d.Written = 0
		}
		w.finish(d, reply{status: http.StatusGatewayTimeout, text: "Request timeout"})
	}
}

// settle decides requests that a device has not answered, by what it has reported since. registered
// says that it has registered again, and was read. The caller holds mu.
func (b *Bridge) settle(endpoint string, d *device, registered bool) {
	for _, w := range b.writes {
		if w.call.endpoint != endpoint || !w.unknown {
			continue
		}
		idle := d.State == nil || *d.State == stateIdle
		var took bool
		if w.executes() {
			// Executed ends with a verdict on the update.
			took = !d.Executed || d.State != nil && *d.State == stateUpdating || registered && idle
		} else {
			took = d.Moved
		}
		switch {
		case took:
			w.finish(d, reply{status: http.StatusOK, json: success(w.status)})
		case registered:
			w.giveUp(d)
		}
	}
}
