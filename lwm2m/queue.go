package lwm2m

import (
	"context"
	"slices"
)

// A requestQueue holds the requests to one device that wait, in the order of their calls, and says which may go.
// Guarded by Server.mu.
type requestQueue struct {
	waiting []*ticket
	running []*ticket
}

// lane is what a request shares the device with.
type lane uint8

const (
	laneRequest   lane = iota // one at a time
	laneStream                // one at a time, beside a request
	laneExclusive             // alone
)

// A ticket is a request in a queue.
type ticket struct {
	lane    lane
	granted chan error              // receives nil when the request may go, or why it never will
	cancel  context.CancelCauseFunc // stops the request when it runs
}

func (q *requestQueue) idle() bool { return len(q.waiting) == 0 && len(q.running) == 0 }

// busy reports whether something in one of the lanes is going on.
func (q *requestQueue) busy(lanes ...lane) bool {
	return slices.ContainsFunc(q.running, func(t *ticket) bool { return slices.Contains(lanes, t.lane) })
}

// admissible reports whether a request in lane l may begin now.
func (q *requestQueue) admissible(l lane) bool {
	switch l {
	case laneRequest:
		return !q.busy(laneRequest, laneExclusive)
	case laneStream:
		return !q.busy(laneStream, laneExclusive)
	default:
		return len(q.running) == 0
	}
}

// grant lets all go that may. A request does not pass one in its own lane, nor one that wants the device alone and only
// waits for another request to end.
func (q *requestQueue) grant() {
	var blocked [laneExclusive + 1]bool
	q.waiting = slices.DeleteFunc(q.waiting, func(t *ticket) bool {
		if blocked[t.lane] || !q.admissible(t.lane) {
			blocked[t.lane] = true
			if t.lane == laneExclusive && !q.busy(laneStream) {
				blocked = [laneExclusive + 1]bool{true, true, true}
			}
			return false
		}
		q.running = append(q.running, t)
		t.granted <- nil
		return true
	})
}

// remove takes t out, wherever it is.
func (q *requestQueue) remove(t *ticket) {
	same := func(u *ticket) bool { return u == t }
	q.waiting = slices.DeleteFunc(q.waiting, same)
	q.running = slices.DeleteFunc(q.running, same)
}

// fail tells all who wait that they wait in vain.
func (q *requestQueue) fail(err error) {
	for _, t := range q.waiting {
		t.granted <- err
	}
	q.waiting = nil
}

// interrupt stops what is running, for example because the device is not where the requests went.
func (q *requestQueue) interrupt(err error) {
	for _, t := range q.running {
		t.cancel(err)
	}
}
