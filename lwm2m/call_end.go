package lwm2m

import (
	"errors"
	"fmt"
)

// again puts a call back into the queue of its device: at the front if it has not reached the
// device, else at the end, since it may make the device fail. s.mu is held.
func (s *Server) again(c *Call, front bool) {
	d := c.device
	s.dequeue(c)
	c.device, c.phase, c.stirs = nil, phaseNew, false
	s.enqueue(c, front)
	d.trim()
}

// end is finish for callers that do not hold Server.mu.
func (c *Call) end(a Answer) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.server.finish(c, a)
}

// finish ends a call, once, and starts the next ones. s.mu is held.
func (s *Server) finish(c *Call, a Answer) {
	if c.phase == phaseEnded {
		return
	}
	d := c.device
	if d != nil {
		s.dequeue(c)
	}
	c.device, c.phase = nil, phaseEnded
	if c.stopHook != nil {
		c.stopHook(a.Err)
		c.stopHook = nil
	}
	if d != nil {
		s.grant(d)
		d.trim()
	}
	if c.forget != nil && !c.asked {
		a.Err = nil // the device is not reachable: the server will reject its next notification
	}
	s.requestEnded(c, a.Err)
	c.deliver(a)
}

// dequeue takes a call out of the queue of its device. s.mu is held.
func (s *Server) dequeue(c *Call) {
	c.device.activity.queue.remove(c)
	if c.phase == phaseWaiting {
		s.waiting--
	} else {
		s.running--
	}
	s.queueChanged()
}

// failRequests ends all calls of a device. s.mu is held.
func (s *Server) failRequests(d *device, err error) {
	if d.activity == nil {
		return
	}
	q := &d.activity.queue
	waiting := q.waiting
	q.waiting = nil
	s.waiting -= len(waiting)
	s.queueChanged()
	for _, c := range waiting {
		c.device = nil // it is out of the queue
		s.finish(c, Answer{Err: fmt.Errorf("%w: %s", err, d.endpoint)})
	}
	s.interruptRunning(d, err)
}

// interruptRunning stops the calls whose turn it is, for example because the device has moved. s.mu
// is held.
func (s *Server) interruptRunning(d *device, err error) {
	if d.activity == nil {
		return
	}
	for _, c := range append([]*Call(nil), d.activity.queue.running...) {
		switch {
		case c.phase == phaseSent && c.interrupt == nil:
			c.interrupt = err
			round := c.round
			s.starts.Run(func() { c.stop(round, err) })
		case c.phase == phaseGranted && errors.Is(err, errInterrupted):
			c.interrupt = err // depart puts it back into the queue
		case c.phase == phaseGranted:
			s.finish(c, Answer{Err: fmt.Errorf("%w: %s", err, d.endpoint)})
		}
	}
}

// stop ends the exchange of a round that was interrupted.
func (c *Call) stop(round uint32, cause error) {
	c.mu.Lock()
	inner := c.inner
	if c.innerRound != round {
		inner = nil
	}
	c.mu.Unlock()
	if inner != nil {
		inner.Cancel(cause)
	}
}
