package lwm2m

import "slices"

// A requestQueue holds the requests to one device, in the order of their calls, and decides which
// may start. Guarded by Server.mu.
type requestQueue struct {
	waiting []*Call
	running []*Call
}

// lane says which other requests may run beside a request.
type lane uint8

const (
	laneRequest   lane = iota // one at a time
	laneStream                // one at a time, beside a request
	laneExclusive             // alone
)

func (q *requestQueue) idle() bool { return len(q.waiting) == 0 && len(q.running) == 0 }

// busy reports whether a request in one of the lanes is running.
func (q *requestQueue) busy(lanes ...lane) bool {
	return slices.ContainsFunc(q.running, func(c *Call) bool { return slices.Contains(lanes, c.lane) })
}

// exchanging reports whether the endpoint has a request of the device.
func (q *requestQueue) exchanging() bool {
	return slices.ContainsFunc(q.running, func(c *Call) bool { return c.phase == phaseSent })
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

// grant calls launch for all requests that may start. A request does not overtake one in its own
// lane, nor an exclusive one that only waits for another request to end.
func (q *requestQueue) grant(launch func(*Call)) {
	var blocked [laneExclusive + 1]bool
	q.waiting = slices.DeleteFunc(q.waiting, func(c *Call) bool {
		if blocked[c.lane] || !q.admissible(c.lane) {
			blocked[c.lane] = true
			if c.lane == laneExclusive && !q.busy(laneStream) {
				blocked[laneStream] = true // laneRequest needs no block: one of its requests is running
			}
			return false
		}
		q.running = append(q.running, c)
		launch(c)
		return true
	})
}

// add puts c into the queue: at the end, or at the front if it had its turn before but did not
// reach the device.
func (q *requestQueue) add(c *Call, front bool) {
	if front {
		q.waiting = slices.Insert(q.waiting, 0, c)
		return
	}
	q.waiting = append(q.waiting, c)
}

// remove removes c from the queue, whether it waits or runs.
func (q *requestQueue) remove(c *Call) {
	same := func(other *Call) bool { return other == c }
	if c.phase == phaseWaiting {
		q.waiting = slices.DeleteFunc(q.waiting, same)
		return
	}
	q.running = slices.DeleteFunc(q.running, same)
}
