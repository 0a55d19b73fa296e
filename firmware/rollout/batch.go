package rollout

import (
	"context"
	"errors"
	"time"

	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// maxLines is how long the journal of a rollout grows. After that it takes only lines of orders,
// and those that say that the rollout moves on or ends.
const maxLines = 10_000

// A batch is steps that are stored in one commit.
type batch struct {
	r       *runner
	actor   string // who ordered it
	record  Rollout
	members map[string]*Member // those that the steps concern
	order   []string           // those of them that are stored
	stores  map[string]struct{}
	lines   []Event
	do      map[string]fsm.ActionKind
	changed bool
	same    bool // the order found everything as it wants it
}

func (r *runner) begin() *batch {
	return &batch{r: r, record: r.record}
}

// step applies an input to the record, and to a member if it concerns one.
func (b *batch) step(m *Member, in fsm.Input) fsm.Actions {
	var before fsm.Member
	var endpoint string
	if m != nil {
		before, endpoint = m.Machine, m.Endpoint
	}
	in.At = time.Now()
	machine, after, out := b.record.Machine.Step(before, in)
	b.record.Machine = machine
	if m != nil {
		m.Machine = after
	}
	for _, line := range out.Journal {
		about := ""
		switch line.Event {
		case fsm.EventMissing, fsm.EventLate, fsm.EventTripped:
			about = endpoint // the others follow from a member's step, and are about the rollout
		}
		b.log(about, line.Event, line.Detail)
	}
	b.changed = b.changed || out.Persist
	return out
}

// log adds a line to the journal of the rollout.
func (b *batch) log(endpoint, event, detail string) {
	if b.record.Lines+uint64(len(b.lines)) >= maxLines {
		switch event {
		case fsm.EventMissing, fsm.EventLate, fsm.EventHealth, fsm.EventExtended, fsm.EventSoaking, fsm.EventChecking:
			return
		}
	}
	b.lines = append(b.lines, Event{
		Rollout: b.record.ID, Time: b.record.Machine.Now, Name: event, Detail: detail, Actor: b.actor, Endpoint: endpoint,
	})
}

// rollout steps the rollout alone.
func (b *batch) rollout(in fsm.Input) fsm.Actions { return b.step(nil, in) }

// load returns a member as it is in the batch, or as it is stored; nil if there is none.
func (b *batch) load(ctx context.Context, endpoint string) (*Member, error) {
	if m := b.members[endpoint]; m != nil {
		return m, nil
	}
	if m, ok := b.r.members[endpoint]; ok {
		return &m, nil
	}
	m, err := b.r.m.db.Member(ctx, b.record.ID, endpoint)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &m, nil
}

// find is load for the runner's own steps: a member that cannot be read is none, and the rollout is
// mended before it goes on.
func (b *batch) find(ctx context.Context, endpoint string) (*Member, error) {
	m, err := b.load(ctx, endpoint)
	if errors.Is(err, store.ErrDamaged) {
		b.r.damaged(endpoint, err)
		return nil, nil
	}
	return m, err
}

// member steps a member, if there is one.
func (b *batch) member(ctx context.Context, endpoint string, in fsm.Input) error {
	m, err := b.find(ctx, endpoint)
	if m != nil && err == nil {
		b.stepMember(m, in)
	}
	return err
}

// stepMember steps a member that was loaded.
func (b *batch) stepMember(m *Member, in fsm.Input) fsm.Actions {
	in.Zone = b.r.zone(m)
	out := b.step(m, in)
	if out.Persist {
		b.put(m)
	}
	if out.Do != fsm.ActionNone {
		if b.do == nil {
			b.do = map[string]fsm.ActionKind{}
		}
		b.do[m.Endpoint] = out.Do
		b.keep(m)
	}
	return out
}

func (b *batch) keep(m *Member) {
	if b.members == nil {
		b.members = map[string]*Member{}
	}
	b.members[m.Endpoint] = m
}

// put has the member stored with the batch.
func (b *batch) put(m *Member) {
	if b.stores == nil {
		b.stores = map[string]struct{}{}
	}
	if _, twice := b.stores[m.Endpoint]; !twice {
		b.stores[m.Endpoint] = struct{}{}
		b.order = append(b.order, m.Endpoint)
	}
	b.keep(m)
	b.changed = true
}

// busy notes that another update is in the way of a member that waits.
func (b *batch) busy(m *Member, update string, pause time.Duration) {
	m.Machine.Busy, m.Machine.Until = update, time.Now().Add(pause)
	b.put(m)
}

// full commits a batch that has become large, and begins another one in its place.
func (b *batch) full(ctx context.Context) error {
	if len(b.order) < batchSize {
		return nil
	}
	err := b.commit(ctx)
	*b = *b.r.begin()
	return err
}

// parts returns the changes of a commit beside that of the rollout.
func (b *batch) parts() (changes []store.RolloutChange) {
	if len(b.order) > 0 {
		list := make([]Member, 0, len(b.order))
		for _, endpoint := range b.order {
			list = append(list, *b.members[endpoint])
		}
		changes = append(changes, store.PutMembers{Rollout: b.record.ID, Members: list})
	}
	if len(b.lines) > 0 {
		changes = append(changes, store.AppendRolloutEvents{Rollout: b.record.ID, Events: b.lines})
	}
	return changes
}

// commit stores the batch, and then carries its actions out.
func (b *batch) commit(ctx context.Context) error {
	r := b.r
	if b.changed {
		b.record.Changed = time.Now()
		changes := append([]store.RolloutChange{store.ReplaceRollout{Rollout: b.record}}, b.parts()...)
		if err := r.m.db.CommitRollouts(ctx, changes...); err != nil {
			return storeError(err)
		}
		b.record.Revision++
		b.record.Lines += uint64(len(b.lines))
		r.stored(b)
	} else {
		r.record.Machine.Now = b.record.Machine.Now // time has passed, which is not worth a commit
	}
	for endpoint, do := range b.do {
		r.act(ctx, *b.members[endpoint], do)
	}
	return nil
}

// storeError returns the error of a commit; what the store does not take is the caller's fault.
func storeError(err error) error {
	if errors.Is(err, store.ErrInvalid) {
		return invalid("request", "cannot be stored: %v", err)
	}
	return err
}
