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

// cancelOnDevice is the last action of an update that the server has ended: it asks the device to
// drop the package, and then reads the device, to learn what it may still do.
func (m *Manager) cancelOnDevice(ctx context.Context, u Update, last fsm.Action, observation *lwm2m.Observation) {
	done := fsm.Observation{Kind: fsm.ObserveDone, Action: last.ID}
	e := &action{m: m, endpoint: u.Endpoint, update: u.ID, lane: laneRequest}
	e.run = func(e *action) {
		e.request(lwm2m.Request{Operation: lwm2m.OpExecute, Path: pathCancel}, func(a lwm2m.Answer) {
			look := func(a lwm2m.Answer) {
				if a.Err != nil && !answered(a.Err) {
					e.end(a.Err)
					return
				}
				e.read(fsm.ReadState|fsm.ReadVersion, &done.Reading, e.end)
			}
			if a.Err == nil || last.Reset != fsm.ResetEmptyURI {
				look(a)
				return
			}
			e.request(resetRequest(last.Reset), look)
		})
	}
	e.finish = func(err error) {
		m.forgetCancel(e)
		m.log.Debug("cancelled on the device", "update", u.ID, "endpoint", u.Endpoint, "error", err)
		drop(observation)
		verdict(&done, err)
		m.enlist(func(ctx context.Context) { m.cancelled(ctx, u.ID, done) })
	}
	e.atEnd(func() { m.forgetCancel(e) })
	m.mu.Lock()
	if !m.running {
		m.mu.Unlock()
		return
	}
	m.cancels[u.Endpoint] = e
	e.closed = m.actionHooks(ctx, u, fsm.ActionCancel)
	m.mu.Unlock()
	limit := time.AfterFunc(cancelLimit, e.evict)
	e.atEnd(func() { limit.Stop() })
	e.begin()
}

// cancelled stores what the last action has found.
func (m *Manager) cancelled(ctx context.Context, id string, o fsm.Observation) {
	_ = m.untilStored(ctx, id, func(ctx context.Context) error {
		u, err := m.db.Update(ctx, id)
		if err != nil {
			return err
		}
		o.At = m.clock.now()
		next, actions := u.Machine.Step(o)
		if u.Active() || !actions.Persist {
			return nil
		}
		u.Machine, u.Changed = next, next.Now()
		_, err = m.db.Commit(ctx, store.ReplaceUpdate{Update: u}, store.AppendEvents{Events: journal(u, actions.Journal)})
		if err == nil {
			m.tail.news.durable()
		}
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
