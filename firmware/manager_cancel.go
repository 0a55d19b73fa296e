package firmware

import (
	"context"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// cancelLimit is how long the last action of an update may take.
const cancelLimit = time.Minute

// A cancelAction is the last action of an update that the server has ended: it asks the device to
// drop the package, and then reads the device, to learn what it may still do.
type cancelAction struct {
	action
	last        fsm.Action
	observation *lwm2m.Observation // that the update had; nil for none
	done        fsm.Observation
}

// cancelOnDevice begins the last action of an update.
func (m *Manager) cancelOnDevice(ctx context.Context, u *Update, last fsm.Action, observation *lwm2m.Observation) {
	a := &cancelAction{
		action: action{m: m, endpoint: u.Endpoint, update: u.ID, lane: laneRequest}, last: last, observation: observation,
		done: fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID},
	}
	a.plan = a
	a.atEnd(func() { m.forgetCancel(&a.action) })
	m.mu.Lock()
	if !m.running {
		m.mu.Unlock()
		return
	}
	m.cancels[u.Endpoint] = &a.action
	a.hooks = m.actionHooks(ctx, u, fsm.ActionCancel)
	m.mu.Unlock()
	limit := time.AfterFunc(cancelLimit, a.evict)
	a.atEnd(func() { limit.Stop() })
	a.begin()
}

// start implements plan.
func (a *cancelAction) start() {
	a.request(lwm2m.Request{Operation: lwm2m.OpExecute, Path: pathCancel}, func(answer lwm2m.Answer) {
		if answer.Err == nil || a.last.Reset != fsm.ResetEmptyURI {
			a.look(answer)
			return
		}
		a.request(resetRequest(a.last.Reset), a.look)
	})
}

// look reads the device, if it answered.
func (a *cancelAction) look(answer lwm2m.Answer) {
	if answer.Err != nil && !answered(answer.Err) {
		a.end(answer.Err)
		return
	}
	a.read(fsm.ReadState|fsm.ReadVersion, &a.done.Reading, a.end)
}

// notice implements plan.
func (a *cancelAction) notice(fsm.ObservationKind) {}

// finish implements plan.
func (a *cancelAction) finish(err error) {
	m := a.m
	m.forgetCancel(&a.action)
	m.log.Debug("cancelled on the device", "update", a.update, "endpoint", a.endpoint, "error", err)
	drop(a.observation)
	verdict(&a.done, err)
	m.enlist(func(ctx context.Context) { m.cancelled(ctx, a.update, a.done) })
}

// cancelled stores what the last action has found.
func (m *Manager) cancelled(ctx context.Context, id string, o fsm.Observation) {
	_ = m.untilStored(ctx, id, func(ctx context.Context) error {
		u, err := m.db.Update(ctx, id)
		if err != nil {
			return err
		}
		o.At = m.clock.now()
		if u.Active() {
			return nil
		}
		actions := u.Machine.Apply(o)
		if !actions.Persist {
			return nil
		}
		u.Changed = u.Machine.Now()
		_, err = m.commit(ctx, store.ReplaceUpdate{Update: u}, store.AppendEvents{Events: appendJournal(nil, &u, actions.Journal)})
		return err
	})
}

// stopCancel ends the last action of a device's earlier update before another update writes, so
// that a request of the one does not undo the other.
func (m *Manager) stopCancel(endpoint string) {
	m.mu.Lock()
	e := m.cancels[endpoint]
	delete(m.cancels, endpoint)
	m.mu.Unlock()
	if e != nil {
		e.giveUp()
	}
}

func (m *Manager) forgetCancel(e *action) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cancels[e.endpoint] == e {
		delete(m.cancels, e.endpoint)
	}
}
