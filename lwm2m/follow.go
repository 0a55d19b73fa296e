package lwm2m

import (
	"slices"
	"sync"
)

// Values are values of a device that come without a request for each of them; see [Server.Follow].
type Values struct {
	// Registration is that of the device when the values came; its LastSeen is the time.
	Registration Registration
	// Path is the path that is observed, one of those given to Follow: Entries are all that the
	// device has at and below it. It is the root for a Send.
	Path Path
	// Send reports whether the values came with a Send (LwM2M 1.1). If not, First says whether they
	// are those that the device had when the server observed it, or came with a notification.
	Send, First bool
	// Entries are the values, in the order of the device. They belong to the function that gets
	// them. Their times are those that the device gave.
	Entries []Entry
	// Dropped is how many Values of this device were dropped just before these ones, because the
	// function did not return in time.
	Dropped int
}

// Follow keeps observations of paths on every registered device that selects accepts, over
// registrations, changes of address and restarts, and passes the values of their notifications, and
// of Sends, to fn. Nil selects accepts all devices.
func (s *Server) Follow(paths []Path, selects func(Registration) bool, fn func(Values)) (stop func()) {
	f := &follower{server: s, paths: slices.Clone(paths), selects: selects, fn: fn, devices: make(map[string]*followed)}
	unwatch := s.Watch(f.event)
	for r := range s.Registrations() {
		if r.Ended.IsZero() {
			f.observe(r)
		}
	}
	return func() {
		unwatch()
		f.stop()
	}
}

type follower struct {
	server  *Server
	paths   []Path
	selects func(Registration) bool
	fn      func(Values)

	mu      sync.Mutex
	stopped bool
	devices map[string]*followed
}

type followed struct {
	calls        sync.Mutex // held while fn is called
	id           string
	observations []*Observation
}

func (f *follower) device(endpoint string) *followed {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.devices[endpoint]
	if d == nil {
		d = &followed{}
		f.devices[endpoint] = d
	}
	return d
}

func (f *follower) event(e RegistrationEvent) {
	switch e.Kind {
	case EventRegistered, EventUpdated:
		f.observe(e.Registration)
	case EventSent:
		entries := slices.DeleteFunc(slices.Clone(e.Entries), func(e Entry) bool {
			return !slices.ContainsFunc(f.paths, func(p Path) bool { return p.Contains(e.Path) })
		})
		if len(entries) > 0 && (f.selects == nil || f.selects(e.Registration)) {
			f.pass(Values{Registration: e.Registration, Send: true, Entries: entries})
		}
	}
}

// observe observes the paths that the device lists, once for each registration.
func (f *follower) observe(r Registration) {
	d := f.device(r.Endpoint)
	f.mu.Lock()
	known := d.id == r.ID
	d.id = r.ID
	f.mu.Unlock()
	if known || f.selects != nil && !f.selects(r) {
		return
	}
	for _, p := range f.paths {
		if p.IsRoot() || r.Objects().Version(p.Object()).isZero() {
			continue
		}
		first := true
		f.server.Go(Request{Endpoint: r.Endpoint, Operation: OpObserve, Path: p, Values: func(entries []Entry) {
			now, _ := f.server.Registration(r.Endpoint)
			f.pass(Values{Registration: now, First: first, Path: p, Entries: entries})
			first = false
		}}, func(a Answer) {
			f.mu.Lock()
			defer f.mu.Unlock()
			switch {
			case a.Observation == nil:
			case f.stopped:
				a.Observation.Drop(nil)
			default:
				d.observations = append(d.observations, a.Observation)
			}
		})
	}
}

func (f *follower) pass(v Values) {
	d := f.device(v.Registration.Endpoint)
	d.calls.Lock()
	defer d.calls.Unlock()
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	if !stopped {
		f.fn(v)
	}
}

func (f *follower) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	for _, d := range f.devices {
		for _, o := range d.observations {
			o.Drop(nil)
		}
	}
}
