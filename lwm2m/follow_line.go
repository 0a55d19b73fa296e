package lwm2m

import (
	"errors"
	"slices"
	"time"
)

const (
	// followPlaces is how many requests for observations are under way with devices that answer at
	// once, followQuiet how many more with devices that do not.
	followPlaces, followQuiet = 256, 4096
	// followEvery is the time between two requests, in the mean: at a start of the server with many
	// devices, other work must have its share of the processor. followBurst is how much of it may
	// be saved up.
	followEvery, followBurst = time.Second / 2000, 50 * time.Millisecond
	// followYield is how long a request that the device does not answer keeps others waiting.
	followYield = 2 * time.Second
	// followPause is the time from the start of the server to the first request: its sockets are
	// not all there at once.
	followPause = time.Second
)

// errYield ends a request for an observation that gives way to other requests.
var errYield = errors.New("lwm2m: other requests come first")

// followLine paces the requests for observations of all devices. Guarded by Server.mu.
type followLine struct {
	followers     []*follower // replaced, not changed
	devices       []*device   // that wait for a place, each once
	prompt, quiet int         // requests under way; quiet are those to devices that do not answer
	next          time.Duration
	timed         bool // a timer waits for next
	running       bool
}

// lineUp puts a device into the line, unless its requests have to wait for something else. What
// ends the wait calls lineUp again. s.mu is held.
func (s *Server) lineUp(d *device) {
	if f := d.activity.follow; !f.lined && s.followable(d) {
		f.lined = true
		s.follow.devices = append(s.follow.devices, d)
		s.followNext()
	}
}

// followable reports whether the server can send a request for an observation to a device now.
// s.mu is held.
func (s *Server) followable(d *device) bool {
	f := d.activity.follow
	switch {
	case f.call != nil || f.next > s.now() || s.serving == 0:
		return false
	case f.stirs && d.active() && d.reachable && !d.awake:
		return len(d.activity.queue.running) == 0 // the others wait for the device to wake
	default:
		return s.takes(d) && d.activity.queue.idle()
	}
}

// takes reports whether d takes requests now. s.mu is held.
func (s *Server) takes(d *device) bool {
	return d.active() && d.reachable && !d.settling && (d.awake || !d.queue())
}

// followNext sends requests as far as there are places. s.mu is held.
func (s *Server) followNext() {
	l := &s.follow
	if l.running {
		return // a request ended at once
	}
	l.running = true
	defer func() { l.running = false }()
	for len(l.devices) > 0 && l.prompt < followPlaces {
		now := s.now()
		if wait := l.next - now; wait > 0 {
			if !l.timed {
				l.timed = true
				time.AfterFunc(wait, s.followTimed)
			}
			return
		}
		d := l.devices[0]
		l.devices[0] = nil
		l.devices = l.devices[1:]
		f := d.activity.follow
		f.lined = false
		if !s.followable(d) {
			s.pursue(d)
			continue
		}
		l.next = max(l.next, now-followBurst) + followEvery
		s.followStart(d, f)
	}
	if len(l.devices) == 0 {
		l.devices = nil
	}
}

func (s *Server) followTimed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.follow.timed = false
	s.followNext()
}

// followStart sends the next request for an observation to a device. s.mu is held.
func (s *Server) followStart(d *device, f *following) {
	i := slices.IndexFunc(f.paths, func(st standing) bool { return st.due <= s.now() && (st.leaving() || st.open(d)) })
	if i < 0 {
		s.pursue(d)
		return
	}
	st := &f.paths[i]
	if st.renew {
		s.release(d, st)
	}
	c := &Call{server: s, began: s.now(), follow: f, stirs: f.stirs && !d.awake}
	c.request = Request{Endpoint: d.endpoint, Operation: OpObserve, Path: st.path, NoWait: true}
	if st.drop != nil {
		c.request.Operation = opForget
		c.forget, st.drop = st.drop, nil
	}
	c.sink = sink{direct: true, done: func(a Answer) { s.followEnded(d, c, a) }}
	f.call, f.quiet, f.yields, f.stirs = c, false, false, false
	s.follow.prompt++
	if c.stirs && len(d.activity.queue.waiting) > 0 {
		s.followYields(d) // the others must not wait for it once the device sends an Update
	}
	s.enqueue(c, false)
}

// followEnded takes the answer to a request. s.mu is held.
func (s *Server) followEnded(d *device, c *Call, a Answer) {
	f := c.follow
	if f.call = nil; f.quiet {
		s.follow.quiet--
	} else {
		s.follow.prompt--
	}
	st := f.find(c.request.Path)
	switch {
	case c.forget != nil:
	case a.Observation != nil && a.Observation.device != d:
		// It has ended already.
	case a.Observation != nil && st == nil:
		f.paths = append(f.paths, standing{path: c.request.Path, own: a.Observation})
		s.release(d, &f.paths[len(f.paths)-1])
	case a.Observation != nil:
		st.own = a.Observation // its notifications end the series of failures
		if !st.wanted {
			s.release(d, st)
		}
	case st != nil:
		st.failed(a.Err, s.now())
	}
	s.pursue(d)
	s.followNext()
}

// followSlow returns the place of a request that the device does not answer, or refuses for now.
func (s *Server) followSlow(c *Call) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := c.follow; f.call == c && !f.quiet && s.follow.quiet < followQuiet {
		f.quiet = true
		s.follow.prompt--
		s.follow.quiet++
		s.followNext()
	}
}

// followYields makes the request for an observation that is under way give way to another one, if
// the device does not answer it soon. s.mu is held.
func (s *Server) followYields(d *device) {
	f := d.activity.follow
	if f == nil || f.call == nil || f.yields {
		return
	}
	f.yields = true
	c, wait := f.call, followYield
	if c.sent > 0 {
		wait -= s.now() - c.sent
	}
	time.AfterFunc(max(0, wait), func() { c.Cancel(errYield) })
}
