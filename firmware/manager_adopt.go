package firmware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/internal/work"
	"github.com/otago-iot/otago/store"
)

// A firstStep is the first step of an update, which is stored with it.
type firstStep struct {
	seen    fsm.Observation
	actions fsm.Actions
}

// firstStep makes the first step of an update, if a Run can act on it.
func (m *Manager) firstStep(u *Update) *firstStep {
	m.mu.Lock()
	running := m.running
	m.mu.Unlock()
	if !running {
		return nil
	}
	o := m.started(u.Endpoint)
	o.At = u.Created
	return &firstStep{o, u.Machine.Apply(o)}
}

// started returns the first observation of a new update.
func (m *Manager) started(endpoint string) fsm.Observation {
	o := m.resumed(endpoint)
	o.Kind = fsm.ObserveStarted
	return o
}

// adoptNew begins an update that was just created, after its first step if that is stored. Another
// call may have made a step since, or ended the update: it leaves to adoptNew to report the end,
// after the start.
func (m *Manager) adoptNew(ctx context.Context, u *Update, first *firstStep) {
	if m.log.Enabled(ctx, slog.LevelInfo) {
		m.log.Info("update started", "endpoint", u.Endpoint, "update", u.ID, "image", u.Image, "version", u.Machine.Plan.Target)
	}
	m.hook(ctx, "Started", m.config.Hooks.Started, u)
	seen, actions := m.started(u.Endpoint), (*fsm.Actions)(nil)
	if first != nil {
		seen, actions = first.seen, &first.actions
	}
	for !m.adopt(u, seen, actions, func() {}) {
		if stored, err := m.db.Update(ctx, u.ID); err == nil {
			*u = stored
		}
	}
	if !u.Active() {
		m.hasEnded(ctx, u)
		return
	}
	r := m.runOf(u.ID)
	if first == nil || r == nil {
		return
	}
	// No run observed what the device did since the first step.
	switch now := m.resumed(u.Endpoint); {
	case now.Registered.After(first.seen.Registered):
		now.Kind = fsm.ObserveRegistered
		r.observe(now)
	case now.Online && !first.seen.Online:
		now.Kind = fsm.ObserveAwake
		r.observe(now)
	case first.seen.Online && !now.Online:
		now.Kind = fsm.ObserveAway
		if m.srv.Registered(u.Endpoint) {
			now.Kind = fsm.ObserveAsleep
		}
		r.observe(now)
	}
}

// isStarting records that Start stores an update and will adopt it, so that a Run that begins
// meanwhile does not.
func (m *Manager) isStarting(id string, is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is {
		m.starting[id] = false
	} else {
		delete(m.starting, id)
	}
}

// steppedHere records that an update that does not run has made a step, and reports whether Start
// goes on with it.
func (m *Manager) steppedHere(id string) (starting bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, starting = m.starting[id]; starting {
		m.starting[id] = true
	}
	return starting
}

// refused reports whether a failed commit has certainly stored nothing.
func refused(err error) bool {
	for _, is := range []error{store.ErrActive, store.ErrNotFound, store.ErrExists, store.ErrInvalid, store.ErrClosed} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// adoptIfStored begins an update whose commit failed, if the store has it after all.
func (m *Manager) adoptIfStored(id string, first *firstStep) {
	runs := m.spawn(func(ctx context.Context) {
		defer m.isStarting(id, false)
		for _, pause := range []time.Duration{time.Second, 5 * time.Second, storeTimeout, 2 * storeTimeout} {
			work.Sleep(ctx, pause)
			var u Update
			err := m.untilStored(ctx, id, func(ctx context.Context) (err error) {
				u, err = m.db.Update(ctx, id)
				return err
			})
			if err == nil {
				m.tail.news.grown()
				m.watchers.missed()
				m.adoptNew(ctx, &u, first)
				return
			}
		}
	})
	if !runs {
		m.isStarting(id, false) // the next Run finds it
	}
}
