package lwm2m

import "slices"

// A requestQueue holds the requests to one device, in the order of their calls, and says which may
// go. Guarded by Server.mu.
type requestQueue struct {
	waiting []*Call
	running []*Call
}

// lane is what a request shares the device with.
type lane uint8

const (
	laneRequest   lane = iota // one at a time
	laneStream                // one at a time, beside a request
	laneExclusive             // alone
)

func (q *requestQueue) idle() bool { return len(q.waiting) == 0 && len(q.running) == 0 }

// busy reports whether something in one of the lanes is going on.
func (q *requestQueue) busy(lanes ...lane) bool {
	return slices.ContainsFunc(q.running, func(c *Call) bool { return slices.Contains(lanes, c.lane) })
}

// exchanging reports whether messages of a request are on the way.
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

// grant lets all go that may, by calling launch. A request does not pass one in its own lane, nor
// one that wants the device alone and only waits for another request to end.
func (q *requestQueue) grant(launch func(*Call)) {
	var blocked [laneExclusive + 1]bool
	q.waiting = slices.DeleteFunc(q.waiting, func(c *Call) bool {
		if blocked[c.lane] || !q.admissible(c.lane) {
			blocked[c.lane] = true
			if c.lane == laneExclusive && !q.busy(laneStream) {
				blocked[laneStream] = true // a request is running, so that no other may
			}
			return false
		}
		q.running = append(q.running, c)
		launch(c)
		return true
	})
}

// add puts c into the queue: at the end, or in front if its turn had come before and was in vain.
func (q *requestQueue) add(c *Call, front bool) {
	if front {
		q.waiting = slices.Insert(q.waiting, 0, c)
		return
	}
	q.waiting = append(q.waiting, c)
}

// remove takes c out, wherever it is.
func (q *requestQueue) remove(c *Call) {
	same := func(other *Call) bool { return other == c }
	if c.phase == phaseWaiting {
		q.waiting = slices.DeleteFunc(q.waiting, same)
		return
	}
	q.running = slices.DeleteFunc(q.running, same)
}
