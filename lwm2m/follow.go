package lwm2m

import (
	"slices"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/work"
)

// Values are values that a device sent without a request for each of them; see [Server.Follow].
type Values struct {
	// Registration is that of the device when the values came. Its LastSeen is the time when they
	// came.
	Registration Registration
	// Path is the path that the server observes, one of those given to Follow, and Entries are all
	// that the device has at and below it. It is the root for a Send, whose entries are what the
	// device chose to send.
	Path Path
	// Send reports whether the values came with a Send (LwM2M 1.1). If not, First says whether they
	// are those that the device had when the server observed it; else a notification brought them.
	Send, First bool
	// Entries are the values, in the order of the device. They belong to the function that gets
	// them. An entry has a Time if the device gave one, as in the histories of a Send.
	Entries []Entry
	// Dropped is how many Values of the device were dropped before these, because the function did
	// not return in time.
	Dropped int
	// Err is nil, or why the payload of the observation could not be decoded. Then Entries is nil;
	// the observation goes on, and the next values come as usual. The server logs it too.
	Err error
}

// Follow keeps observations of paths on the registered devices that selects accepts, and calls fn
// with the values that they bring, until stop is called. It observes again when a device registers,
// moves to another address or changes its list of objects, and when the server has restarted. Nil
// selects accepts every device.
//
// The server observes the paths that a device lists in its registration, and those below an object
// that it lists without instances. A path below another one of paths is left out. The entries of a
// Send come to fn too, if they are at or below one of paths. The root is never observed: with it in
// paths, fn gets all entries of all Sends.
//
// selects is called with the registration after each Register and each Update. If it returns false
// the observations end.
//
// For each device, calls of selects and fn come one after the other, in the order in which the
// values came; those of up to 128 devices come at once. After [Server.DeleteDevice] the endpoint
// counts as another device. Both may block and may call the server. Up to 16 Values of a device
// wait. Beyond that the oldest is dropped for whose path a newer one waits, so the last value of
// each path arrives if there are not more than 16 paths, where Sends count as one; Values.Dropped
// and [ServerHooks].Dropped count what was dropped. If fn panics the panic is logged, and the next
// Values come as if it had returned; if selects panics the device is not followed.
//
// # When the server observes
//
// One observation serves all Follows of a path, and while [Server.Observe] observes the same path,
// its values serve them as well: many clients keep one observation for each path. Each path has an
// observation of its own, since clients of LwM2M 1.0 know no other, and a client that lacks one of
// the paths would refuse a composite. A Follow that comes later to an observed path makes the
// server observe it again, so that fn gets the present values; the other Follows get them too. If
// [Server.Observe] observes the path, the next notification brings the first values.
//
// Requests for observations go to devices that are awake and have no other request, at most 256 at
// once and 2000 in a second. They give way when a device with other requests does not answer within
// 2 s. A device that refuses (4.xx other than 4.08 and 4.29, 5.01) is asked again when it registers
// or changes its list of objects. One that does not answer, or is busy, is asked again after half a
// minute, then after twice that, up to an hour; its next three Updates make the server ask at once.
// If a device answers but does not observe, fn gets its answer as First each time.
//
// A device in queue mode is also asked when the server rejects one of its notifications, for
// example of an observation from before a restart.
//
// A device may forget an observation without a word, for example when it got no acknowledgement for
// a notification. So an observation that was silent for an hour, or a day in queue mode, is
// requested again after the device's next Update. The freshness of a notification (Max-Age, RFC
// 7641 section 3.3.1) does not count: clients of LwM2M do not set it, and the default is a minute.
//
// A followed device costs some 2 KB with its first path and 1 KB with each further one, and no
// goroutine, as long as no Values wait.
//
// stop ends the observations that no other Follow needs, also on the devices that are awake; the
// server rejects the next notification of the others. stop does not wait for fn: a call that has
// begun, or just begins, may still run when stop returns. stop may be called from fn, and again.
func (s *Server) Follow(paths []Path, selects func(Registration) bool, fn func(Values)) (stop func()) {
	f := &follower{server: s, paths: slices.Clone(paths), selects: selects, fn: fn, calls: work.Pool{Limit: maxDispatchers}}
	f.observed = observable(paths)
	s.ensureLoaded()
	s.mu.Lock()
	s.follow.followers = append(slices.Clip(s.follow.followers), f)
	s.mu.Unlock()
	s.eachDevice(func(d *device) {
		s.attach(f, d)
		s.arrange(d)
	})
	return func() {
		s.mu.Lock()
		f.stopped = true
		s.follow.followers = slices.DeleteFunc(slices.Clone(s.follow.followers), func(other *follower) bool { return other == f })
		s.mu.Unlock()
		s.eachDevice(func(d *device) { s.detach(f, d) })
	}
}

// eachDevice calls fn for each device with s.mu held. It releases s.mu between the calls, as there
// may be many devices.
func (s *Server) eachDevice(fn func(*device)) {
	s.mu.Lock()
	all := make([]*device, 0, s.table.byEndpoint.Len())
	for d := range s.table.byEndpoint.All() {
		all = append(all, d)
	}
	s.mu.Unlock()
	for _, d := range all {
		s.mu.Lock()
		fn(d)
		s.mu.Unlock()
	}
}

// observable returns paths in order, without the root and paths below others.
func observable(paths []Path) []Path {
	paths = slices.DeleteFunc(slices.Clone(paths), Path.IsRoot)
	slices.SortFunc(paths, Path.Compare)
	var above []Path
	for _, p := range paths {
		if n := len(above); n == 0 || !above[n-1].Contains(p) {
			above = append(above, p)
		}
	}
	return above
}

// follower is one call of [Server.Follow].
type follower struct {
	server   *Server
	paths    []Path // as given
	observed []Path // those to observe
	selects  func(Registration) bool
	fn       func(Values)
	calls    work.Pool // of selects and fn
	stopped  bool      // guarded by Server.mu
}

// maxArrivals is how many Values of a device wait for the function of a Follow.
const maxArrivals = maxPendingNotifications

// feed is what the server keeps for one device and one Follow. Guarded by Server.mu.
type feed struct {
	follower *follower
	device   *device
	selected bool
	served   bool // got the present values
	busy     bool // a worker takes the arrivals, or will
	waiting  []*arrival
}

// arrival is what waits for a function of a Follow: values for fn, or a registration for selects.
type arrival struct {
	registration Registration
	selects      bool

	path        Path
	send, first bool
	resp        *coap.Response // of an observation
	codec       codec          // of resp
	entries     []Entry        // of a Send
	dropped     int
}

// push queues an arrival. Server.mu is held.
func (f *feed) push(a *arrival) {
	if a.selects {
		// One question with the newest registration is enough, asked before the values that wait.
		if i := slices.IndexFunc(f.waiting, func(b *arrival) bool { return b.selects }); i >= 0 {
			f.waiting[i] = a
			return
		}
	} else if f.values() >= maxArrivals {
		f.dropOne(a)
	}
	f.waiting = append(f.waiting, a)
	if !f.busy {
		f.busy = true
		f.follower.calls.Run(f.deliver)
	}
}

// values returns how many Values wait. At most one question for selects waits beside them.
func (f *feed) values() int {
	n := len(f.waiting)
	if slices.ContainsFunc(f.waiting, func(a *arrival) bool { return a.selects }) {
		n--
	}
	return n
}

// dropOne makes room for next: see [Server.Follow].
func (f *feed) dropOne(next *arrival) {
	oldest := -1
	for i, a := range f.waiting {
		if a.selects {
			continue
		}
		if oldest < 0 {
			oldest = i
		}
		newer := func(b *arrival) bool { return !b.selects && b.path == a.path }
		if newer(next) || slices.ContainsFunc(f.waiting[i+1:], newer) {
			oldest = i
			break
		}
	}
	gone := f.waiting[oldest]
	f.waiting = slices.Delete(f.waiting, oldest, oldest+1)
	after := next
	if i := slices.IndexFunc(f.waiting[oldest:], func(b *arrival) bool { return !b.selects }); i >= 0 {
		after = f.waiting[oldest+i]
	}
	after.dropped += gone.dropped + 1
	f.follower.server.dropped(DropNotification)
}

// deliver calls a function with the first arrival, and queues itself if there are more.
func (f *feed) deliver() {
	s := f.follower.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(f.waiting) > 0 {
		a := f.waiting[0]
		f.waiting[0] = nil
		f.waiting = f.waiting[1:]
		switch {
		case f.follower.stopped:
		case a.selects:
			f.choose(a.registration)
		case f.selected:
			s.mu.Unlock()
			f.call(a)
			s.mu.Lock()
		}
	}
	if len(f.waiting) > 0 {
		f.follower.calls.Run(f.deliver)
		return
	}
	f.busy, f.waiting = false, nil
	if !f.selected || !f.device.active() {
		s.arrange(f.device) // the feed goes
	}
}

// call passes an arrival to the function of the Follow.
func (f *feed) call(a *arrival) {
	s := f.follower.server
	v := Values{Registration: a.registration, Path: a.path, Send: a.send, First: a.first, Entries: a.entries, Dropped: a.dropped}
	if a.resp != nil {
		if v.Entries, v.Err = a.codec.answer(a.resp, a.path); v.Err != nil {
			v.Entries = nil
			s.notUnderstood(f.device.endpoint, a.path, v.Err)
		}
	}
	s.guard("Follow fn", func() { f.follower.fn(v) })
}

// choose asks the program whether to follow a device. Server.mu is held, but not during the call.
func (f *feed) choose(r Registration) {
	s, ok := f.follower.server, false
	s.mu.Unlock()
	s.guard("Follow selects", func() { ok = f.follower.selects(r) })
	s.mu.Lock()
	if f.device.id == r.ID && f.selected != ok && !f.follower.stopped {
		f.selected = ok
		s.arrange(f.device)
	}
}
