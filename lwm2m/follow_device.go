package lwm2m

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

const (
	// followFirst and followMost bound the pauses between requests for an observation that fail.
	followFirst, followMost = 30 * time.Second, time.Hour
	// followEager is how many failures in a row an Update makes the server forget.
	followEager = 3
	// followSilence is how long an observation may bring nothing before the server requests it
	// again, followSleep the same for devices in queue mode, whose messages cost more.
	followSilence, followSleep = time.Hour, 24 * time.Hour
)

// following is what the server keeps of a device for Follows. Guarded by Server.mu.
type following struct {
	feeds  []*feed
	paths  []standing
	call   *Call         // under way
	next   time.Duration // when there is something to do, on the server's clock; never if there is nothing
	lined  bool          // in the line
	quiet  bool          // the device does not answer call
	yields bool          // call gives way soon
	stirs  bool          // a message came from the device's address, although it seems to sleep
}

const never = time.Duration(math.MaxInt64)

// standing is an observation of one path that the server keeps up.
type standing struct {
	path    Path
	wanted  bool // a Follow needs it
	refused bool // not to be asked for until the device registers or changes its list
	fails   uint8
	pause   work.Backoff
	due     time.Duration // not before
	heard   time.Duration // when it last brought something
	own     *Observation
	renew   bool         // own is to be replaced
	drop    *Observation // to be ended on the device
}

func (f *following) find(path Path) *standing {
	if i := slices.IndexFunc(f.paths, func(st standing) bool { return st.path == path }); i >= 0 {
		return &f.paths[i]
	}
	return nil
}

// release ends the observation of the server's own, here at once and later on the device. s.mu is
// held.
func (s *Server) release(d *device, st *standing) {
	o := st.own
	if o == nil {
		return
	}
	st.own, st.drop, st.renew = nil, o, false
	o.device = nil
	delete(d.activity.observations, o)
	o.finish(nil)
	s.starts.Run(o.remote.Forget) // not here: see endObservations
}

// lost records that the device has no observations any more. s.mu is held.
func (f *following) lost() {
	for i := range f.paths {
		st := &f.paths[i]
		st.own, st.drop, st.renew = nil, nil, false
	}
}

// attach adds a Follow to a device, or asks it again about the device. s.mu is held.
func (s *Server) attach(f *follower, d *device) {
	if !d.active() || f.stopped {
		return
	}
	a := d.act()
	if a.follow == nil {
		a.follow = &following{next: never}
	}
	i := slices.IndexFunc(a.follow.feeds, func(other *feed) bool { return other.follower == f })
	if i < 0 {
		i = len(a.follow.feeds)
		a.follow.feeds = append(a.follow.feeds, &feed{follower: f, device: d, selected: f.selects == nil})
	}
	if f.selects != nil {
		a.follow.feeds[i].push(&arrival{selects: true, registration: d.registration()})
	}
}

// detach removes a Follow that was stopped from a device. s.mu is held.
func (s *Server) detach(f *follower, d *device) {
	if d.activity == nil || d.activity.follow == nil {
		return
	}
	for _, one := range d.activity.follow.feeds {
		if one.follower == f {
			one.selected = false
			s.arrange(d)
			return
		}
	}
}

// arrange makes the standing observations of a device those that its Follows need now. s.mu is
// held.
func (s *Server) arrange(d *device) {
	if d.activity == nil || d.activity.follow == nil {
		return
	}
	f := d.activity.follow
	for i := range f.paths {
		f.paths[i].wanted = false
	}
	var list *ObjectList
	for _, one := range f.feeds {
		if !one.selected || !d.active() {
			one.served = false
			continue
		}
		if list == nil {
			list = new(d.registration().Objects())
		}
		for _, p := range one.follower.observed {
			if !list.mayHave(p) {
				continue
			}
			st := f.find(p)
			if st == nil {
				f.paths = append(f.paths, standing{path: p})
				st = f.find(p)
			}
			if !one.served && st.own != nil {
				st.renew = true // so that the new Follow gets the present values
			}
			st.wanted = true
		}
		one.served = true
	}
	f.feeds = slices.DeleteFunc(f.feeds, func(one *feed) bool { return !one.busy && (!one.selected || !d.active()) })
	for i := range f.paths {
		if st := &f.paths[i]; !st.wanted {
			s.release(d, st)
		}
	}
	s.pursue(d)
}

// mayHave reports whether a device that sent the list may have something at a path: an object
// without instances may have any.
func (l ObjectList) mayHave(p Path) bool {
	o, ok := l.object(p.Object())
	return ok && (len(o.Instances) == 0 || l.Has(p))
}

// plan determines when there is something to do for a device. s.mu is held.
func (s *Server) plan(d *device) {
	f := d.activity.follow
	f.paths = slices.DeleteFunc(f.paths, func(st standing) bool { return !st.wanted && st.drop == nil })
	f.next = never
	for i := range f.paths {
		if st := &f.paths[i]; st.leaving() || st.open(d) {
			f.next = min(f.next, st.due)
		}
	}
}

// leaving reports whether the server has to end an observation of its own on the device.
func (st *standing) leaving() bool { return st.drop != nil || st.renew }

// pursue plans what to do for a device, and begins if that is due. s.mu is held.
func (s *Server) pursue(d *device) {
	f := d.activity.follow
	s.plan(d)
	switch {
	case len(f.feeds) == 0 && len(f.paths) == 0 && f.call == nil && !f.lined:
		d.activity.follow = nil
		d.trim()
	case f.next <= s.now():
		s.lineUp(d)
	case f.next < never && d.active():
		s.schedule(d)
		s.arm()
	}
}

// open reports whether the server has to request the observation, now or later.
func (st *standing) open(d *device) bool {
	return st.wanted && !st.refused && !d.observes(st.path)
}

// superseded is called when the program has made an observation of its own. It ends that of the
// server, silently: a client that keeps one observation for each path has replaced it, and would
// end the program's if it were asked to. Another client does so when its next notification is
// rejected, but not on a stream. s.mu is held.
func (s *Server) superseded(d *device, o *Observation) {
	if d.activity.follow == nil {
		return
	}
	st := d.activity.follow.find(o.path)
	if st == nil {
		return
	}
	s.release(d, st)
	if o.peer.Transport == coap.UDP || o.peer.Transport == coap.DTLS {
		st.drop = nil
	}
	s.pursue(d)
}

// observationLost records that an observation has ended, which may be that of the program. s.mu is
// held.
func (s *Server) observationLost(d *device, o *Observation, err error) {
	if d.activity == nil || d.activity.follow == nil {
		return
	}
	if st := d.activity.follow.find(o.path); st != nil && st.own == o {
		st.own, st.renew = nil, false
		st.failed(err, s.now())
	}
	s.plan(d)
}

// observes reports whether there is an observation of the path, of Follows or of the program.
func (d *device) observes(path Path) bool {
	for o := range d.activity.observations {
		if o.path == path {
			return true
		}
	}
	return false
}

// failed records why the observation is not there. Server.mu is held.
func (st *standing) failed(err error, now time.Duration) {
	if _, answered := errors.AsType[*ResponseError](err); answered && refuses(codeOf(err)) {
		st.refused = true
		return
	}
	switch {
	case errors.Is(err, ErrNotRegistered), errors.Is(err, ErrAsleep), errors.Is(err, ErrClosed), errors.Is(err, errInterrupted):
		return // not the fault of the device
	case errors.Is(err, ErrTooLarge):
		st.refused = true
		return
	}
	st.fails = min(st.fails+1, math.MaxUint8-1)
	st.due = now + work.Spread(st.pause.Next(followFirst, followMost))
}

// refuses reports whether a device that answers with code would do so again.
func refuses(code ResponseCode) bool {
	switch code {
	case CodeIncomplete, CodeTooManyRequests:
		return false
	case CodeNotImplemented:
		return true
	default:
		return code>>5 == 4
	}
}

// followEvent tells the Follows what happened to a device. s.mu is held.
func (s *Server) followEvent(e RegistrationEvent, d *device) {
	if e.Kind == EventSent {
		s.passSend(d, e.Entries)
		return
	}
	for _, f := range s.follow.followers {
		s.attach(f, d)
	}
	if d.activity == nil || d.activity.follow == nil {
		return
	}
	now, silence := s.now(), followSilence
	if d.queue() {
		silence = followSleep
	}
	fresh := e.Kind == EventRegistered || e.LinksChanged
	for i := range d.activity.follow.paths {
		st := &d.activity.follow.paths[i]
		switch {
		case fresh:
			st.refused, st.fails, st.pause, st.due = false, 0, 0, 0
		case st.own != nil && now-st.heard >= silence:
			st.renew = true
		case st.fails <= followEager:
			st.due = 0
		}
	}
	if fresh {
		s.arrange(d)
	} else {
		s.pursue(d)
	}
}

// pass queues the payload of an observation for the Follows of its path. s.mu is held.
func (s *Server) pass(d *device, o *Observation, resp *coap.Response, first bool) {
	if d == nil || d.activity == nil || d.activity.follow == nil {
		return
	}
	f := d.activity.follow
	st := f.find(o.path)
	if st == nil {
		return
	}
	st.heard = s.now()
	if !first {
		st.fails, st.pause = 0, 0
	}
	var r Registration
	for _, one := range f.feeds {
		if one.selected && slices.Contains(one.follower.observed, o.path) {
			if r.ID == "" {
				r = d.registration()
			}
			one.push(&arrival{registration: r, path: o.path, first: first, resp: resp, codec: o.codec})
		}
	}
}

// passSend queues the entries of a Send for the Follows of their paths. s.mu is held.
func (s *Server) passSend(d *device, entries []Entry) {
	if d.activity == nil || d.activity.follow == nil {
		return
	}
	r := d.registration()
	for _, one := range d.activity.follow.feeds {
		var theirs []Entry
		for _, e := range entries {
			if slices.ContainsFunc(one.follower.paths, func(p Path) bool { return p.Contains(e.Path) }) {
				theirs = append(theirs, e)
			}
		}
		if len(theirs) > 0 {
			one.push(&arrival{registration: r, send: true, entries: theirs})
		}
	}
}

// stirred is called when a notification from p was rejected: the server has restarted, or has lost
// the observation in another way, and a device in queue mode is awake. It may be forged, so it does
// not count as contact; only a request for an observation asks whether the device is there.
func (s *Server) stirred(p coap.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.table.byPeer.Get(p)
	if d == nil || d.activity == nil || d.activity.follow == nil {
		return
	}
	f := d.activity.follow
	f.stirs = d.queue() && !d.awake && slices.ContainsFunc(f.paths, func(st standing) bool { return st.open(d) })
	if f.stirs {
		s.lineUp(d)
	}
}

// passFirst is pass for the answer that begins an observation.
func (s *Server) passFirst(o *Observation, resp *coap.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pass(o.device, o, resp, true)
}

// unobserved is passFirst for an answer of a device that does not observe.
func (s *Server) unobserved(ss *session, o *Observation, resp *coap.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.follow && ss.device.id == ss.id {
		s.pass(ss.device, o, resp, true)
	}
}

// followRestored begins to follow when the server begins to serve: also devices that were loaded
// after the calls of Follow.
func (s *Server) followRestored() {
	s.mu.Lock()
	followers := s.follow.followers
	s.mu.Unlock()
	if len(followers) == 0 {
		return
	}
	s.eachDevice(func(d *device) {
		for _, f := range followers {
			s.attach(f, d)
		}
		s.arrange(d)
	})
}
