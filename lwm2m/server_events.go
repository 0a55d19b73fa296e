package lwm2m

const (
	// maxDispatchers bounds the endpoints whose events are delivered at once.
	maxDispatchers = 128
	// maxPendingEvents bounds the events of an endpoint that wait for slow watchers; a device that
	// sends more is answered 5.03.
	maxPendingEvents = 64
)

// watcher is a function of Watch.
type watcher struct{ fn func(RegistrationEvent) }

// dispatcher calls watchers with the events of devices. A device is in line at most once, so its
// events stay in order. Guarded by Server.mu.
type dispatcher struct {
	line    []*device
	workers int
}

// Watch calls fn with each event from now on, until stop is called. Events of one endpoint come one
// after another in their order, those of up to 128 endpoints at once. fn may block and may call the
// server; it then delays only the later events of its endpoint, never the network. Consecutive
// Updates that wait are merged. stop does not wait for calls: when it returns, those of events that
// were already taken may run, or just begin.
func (s *Server) Watch(fn func(RegistrationEvent)) (stop func()) {
	w := &watcher{fn: fn}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[w] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, w)
	}
}

// emit queues an event of a device. s.mu is held.
func (s *Server) emit(e RegistrationEvent, d *device) {
	if f := s.config.Hooks.Registration; f != nil {
		e.Registration = d.registration()
		said := e
		s.hook("ServerHooks.Registration", func() { f(said) })
	}
	if len(s.watchers) == 0 {
		return
	}
	e.Registration = d.registration()
	a := d.act()
	if n := len(a.events); n > 0 && e.Kind == EventUpdated && a.events[n-1].Kind == EventUpdated {
		e.LinksChanged = e.LinksChanged || a.events[n-1].LinksChanged
		a.events[n-1] = e
		return
	}
	a.events = append(a.events, e)
	if a.dispatching {
		return
	}
	a.dispatching = true
	s.events.line = append(s.events.line, d)
	if s.events.workers < maxDispatchers {
		s.events.workers++
		s.workers.Go(s.dispatch)
	}
}

// dispatch delivers events until there are none.
func (s *Server) dispatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.events.workers-- }()
	for len(s.events.line) > 0 {
		d := s.events.line[0]
		s.events.line[0] = nil
		s.events.line = s.events.line[1:]
		a := d.activity
		if len(a.events) == 0 {
			a.dispatching = false
			d.trim()
			continue
		}
		e := a.events[0]
		a.events[0] = RegistrationEvent{}
		a.events = a.events[1:]
		for w := range s.watchers {
			s.mu.Unlock()
			s.guard("Watch", func() { w.fn(e) })
			s.mu.Lock()
		}
		s.events.line = append(s.events.line, d) // behind the others
	}
	s.events.line = nil
}
