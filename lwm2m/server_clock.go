package lwm2m

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/internal/coap"
)

// now is the time on the server's own clock. A step of the system's clock does not change it.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// wall is the time of day as registrations carry it. The server reads the system's clock once; from
// then on its own clock counts. So the times of registrations do not go back when the system's
// clock is set back, nor over a restart, as load raises wall to the latest stored time.
func (s *Server) wall() time.Time { return time.Unix(0, s.wallStart.Load()+int64(s.now())).UTC() }

// raiseWall makes wall no earlier than t.
func (s *Server) raiseWall(t time.Time) {
	if d := t.Sub(s.wall()); d > 0 {
		s.wallStart.Add(int64(d))
	}
}

// arm sets the timer to the time at which the first device is due. s.mu is held.
func (s *Server) arm() {
	if s.serving == 0 || len(s.table.due) == 0 {
		return
	}
	at := s.table.due[0].due
	switch {
	case s.timer == nil:
		s.timer = time.AfterFunc(at-s.now(), s.tick)
	case s.timerAt == at:
		return
	default:
		s.timer.Reset(at - s.now())
	}
	s.timerAt = at
}

// tick handles all devices that are due.
func (s *Server) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timerAt = -1
	if s.serving == 0 {
		return
	}
	now := s.now()
	for len(s.table.due) > 0 && s.table.due[0].due <= now {
		d := s.table.due[0]
		s.table.unschedule(d)
		s.look(d, now)
	}
	s.arm()
}

// silenceStep limits how often contact with a device without a lifetime is stored: at most once in
// each 1/silenceStep of MaxSilence.
const silenceStep = 30

// lasting is how long a registration lasts. One without a lifetime lasts as long as the device is
// heard.
func (s *Server) lasting(lifetime time.Duration) time.Duration {
	if lifetime == 0 {
		return s.config.MaxSilence
	}
	return lifetime
}

// holds reports whether a registration has lifetime left, and extends the lifetime where that is
// due. s.mu is held.
func (s *Server) holds(d *device, now time.Duration) bool {
	switch {
	case !d.active():
		return false
	case d.expires > now:
	case d.settings().lifetime == 0 && d.heard+s.config.MaxSilence > now:
		d.expires = d.heard + s.config.MaxSilence
	case d.activity != nil && d.activity.queue.exchanging():
		// Some clients send no Update during a transfer, so the transfer counts as one.
		d.expires = now + s.awakeTime(d)
	default:
		return false
	}
	return true
}

// askAwakeTime asks the program how long a device in queue mode listens after a message. 0 stands
// for AwakeTime. s.mu is not held.
func (s *Server) askAwakeTime(r Registration) time.Duration {
	if s.config.AwakeTimeOf == nil || !r.Queue || s.awakeCalls.Load() > 0 {
		return 0
	}
	var answer time.Duration
	done := s.guardAsync("ServerConfig.AwakeTimeOf", func() { answer = s.config.AwakeTimeOf(r) })
	limit := time.NewTimer(awakeLimit)
	defer limit.Stop()
	select {
	case <-done:
		return min(max(answer, 0), s.config.MaxLifetime)
	case <-limit.C:
	}
	s.log.Warn("a function of the program does not return", slog.String("function", "ServerConfig.AwakeTimeOf"),
		slog.String("endpoint", r.Endpoint))
	s.awakeCalls.Add(1)
	go func() {
		<-done
		s.awakeCalls.Add(-1)
	}()
	return 0
}

// awakeLimit bounds a call of AwakeTimeOf.
const awakeLimit = time.Second

// awakeTime returns how long d listens after a message. s.mu is held.
func (s *Server) awakeTime(d *device) time.Duration {
	return cmp.Or(d.settings().awake, s.config.AwakeTime)
}

// look does what is due for a device. s.mu is held.
func (s *Server) look(d *device, now time.Duration) {
	if !d.active() {
		return
	}
	if !s.holds(d, now) {
		endpoint := d.endpoint
		s.starts.Run(func() { s.log.Info("registration expired", slog.String("endpoint", endpoint)) })
		s.end(d, EventExpired, s.wall())
		s.touchStore(d)
		return
	}
	if d.queue() && d.awake && d.heard+s.awakeTime(d) <= now {
		s.fallAsleep(d)
	}
	s.grant(d)
	s.schedule(d)
}

// schedule puts d into the heap for its next deadline. s.mu is held.
func (s *Server) schedule(d *device) {
	due := d.expires
	if d.queue() && d.awake {
		due = min(due, d.heard+s.awakeTime(d))
	}
	if d.activity != nil && d.activity.follow != nil && d.activity.follow.next > s.now() {
		due = min(due, d.activity.follow.next)
	}
	s.table.schedule(d, due)
}

// fallAsleep records that a device in queue mode no longer listens. s.mu is held.
func (s *Server) fallAsleep(d *device) {
	if d.queue() && d.awake {
		d.awake = false
		s.emit(RegistrationEvent{Kind: EventAsleep}, d)
	}
}

// hear records contact and releases queued requests. s.mu is held.
func (s *Server) hear(d *device) {
	d.settling = false
	d.heard = s.now()
	d.seen = s.wall().UnixNano()
	if limit := s.config.MaxSilence; d.settings().lifetime == 0 && d.active() && d.heard+limit-d.expires > limit/silenceStep {
		d.expires = d.heard + limit
		s.touchStore(d)
	}
	if !d.awake {
		d.awake = true
		if d.queue() {
			s.emit(RegistrationEvent{Kind: EventAwake}, d)
			s.schedule(d)
			s.arm()
		}
	}
	s.grant(d)
}

// grant starts waiting requests if the device can take them. s.mu is held.
func (s *Server) grant(d *device) {
	if d.activity != nil && s.takes(d) {
		d.activity.queue.grant(s.launch)
		if d.activity.follow != nil {
			s.lineUp(d)
		}
	}
}

// end ends a registration. s.mu is held.
func (s *Server) end(d *device, kind EventKind, at time.Time) {
	s.table.byID.Delete(d.id)
	s.table.leave(d)
	s.table.unschedule(d)
	d.id, d.awake, d.ended = "", false, at.UnixNano()
	s.failRequests(d, ErrNotRegistered)
	s.endObservations(d, ErrNotRegistered)
	s.table.retire(d)
	s.emit(RegistrationEvent{Kind: kind}, d)
	s.arrange(d)
	d.trim()
}

// associationClosed is called by the endpoint when a peer on DTLS, TCP or TLS is gone. The
// registration stays: the device comes back with a Register or an Update on another association.
func (s *Server) associationClosed(p coap.Peer) {
	s.traces.closed(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.table.byPeer.Get(p); d != nil {
		s.table.leave(d)
		s.cutOff(d)
	}
}

// locate records that d is reachable at peer. s.mu is held.
func (s *Server) locate(d *device, peer coap.Peer) {
	s.traces.located(d.endpoint, peer)
	if displaced := s.table.locate(d, peer); displaced != nil {
		s.log.Warn("two endpoints at one address", slog.Any("address", peer.Addr),
			slog.String("endpoint", d.endpoint), slog.String("displaced", displaced.endpoint))
		s.cutOff(displaced)
	}
	// The association may have ended while the request was served, before associationClosed could
	// find the device there.
	if peer.Transport != coap.UDP && !s.coap.Connected(peer) {
		s.table.leave(d)
		s.cutOff(d)
	}
}

// cutOff ends the running requests and the observations of a device that can no longer be reached,
// and its waiting requests unless it is in queue mode. s.mu is held.
func (s *Server) cutOff(d *device) {
	if d.queue() {
		s.interruptRunning(d, ErrUnreachable)
	} else {
		s.failRequests(d, ErrUnreachable)
	}
	s.endObservations(d, ErrUnreachable)
	s.fallAsleep(d)
	d.trim()
}
