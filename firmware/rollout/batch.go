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
	at      map[string]int // by endpoint: where a member is in parts
	parts   []part         // members that the steps concern
	puts    int            // how many of them are stored
	lines   []Event
	changed bool
	same    bool // the order found everything as it wants it
}

// A part is what a batch has of a member.
type part struct {
	m   *Member
	put bool // it is stored
	do  fsm.ActionKind
}

func (r *runner) begin() *batch {
	b := &batch{r: r, record: r.record, at: r.spareAt, parts: r.spareParts}
	r.spareAt, r.spareParts = nil, nil
	return b
}

// free lets the next batch use the memory of this one, which is over.
func (b *batch) free() {
	clear(b.parts)
	b.r.spareAt, b.r.spareParts = emptied(b.at), b.parts[:0]
	b.at, b.parts = nil, nil
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
	if i, ok := b.at[endpoint]; ok {
		return b.parts[i].m, nil
	}
	m := new(Member)
	if known := b.r.members[endpoint]; known != nil {
		*m = *known
		return m, nil
	}
	var err error
	*m, err = b.r.m.db.Member(ctx, b.record.ID, endpoint)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return m, nil
}

// find is load for the runner's own steps: a member that cannot be read is none, and the rollout is
// mended before it goes on. If the batch cannot be stored, the runner forgets all members; so the
// steps change those that it keeps.
func (b *batch) find(ctx context.Context, endpoint string) (*Member, error) {
	if _, has := b.at[endpoint]; !has && b.r.members[endpoint] != nil {
		return b.r.members[endpoint], nil
	}
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
	in.Name, in.Zone = m.Endpoint, b.r.zone(m)
	out := b.step(m, in)
	if out.Persist {
		b.put(m)
	}
	if out.Do != fsm.ActionNone {
		b.part(m).do = out.Do
	}
	return out
}

// part returns what the batch has of a member.
func (b *batch) part(m *Member) *part {
	i, ok := b.at[m.Endpoint]
	if !ok {
		if b.at == nil {
			b.at = map[string]int{}
		}
		i = len(b.parts)
		b.at[m.Endpoint], b.parts = i, append(b.parts, part{})
	}
	b.parts[i].m = m
	return &b.parts[i]
}

// put has the member stored with the batch.
func (b *batch) put(m *Member) {
	if p := b.part(m); !p.put {
		p.put = true
		b.puts++
	}
	b.changed = true
}

// busy notes that another update is in the way of a member that waits.
func (b *batch) busy(m *Member, update string, pause time.Duration) {
	m.Machine.Busy, m.Machine.Until = update, time.Now().Add(pause)
	b.put(m)
}

// full commits a batch that has become large, and begins another one in its place.
func (b *batch) full(ctx context.Context) error {
	if b.puts < batchSize {
		return nil
	}
	err := b.commit(ctx)
	*b = *b.r.begin()
	return err
}

// changes returns the changes of a commit, after that of the rollout.
func (b *batch) changes(first store.RolloutChange) []store.RolloutChange {
	changes := append(make([]store.RolloutChange, 0, 3), first)
	if b.puts > 0 {
		list := make([]Member, 0, b.puts)
		for i := range b.parts {
			if b.parts[i].put {
				list = append(list, *b.parts[i].m)
			}
		}
		changes = append(changes, store.PutMembers{Rollout: b.record.ID, Members: list})
	}
	if len(b.lines) > 0 {
		changes = append(changes, store.AppendRolloutEvents{Rollout: b.record.ID, Events: b.lines})
	}
	return changes
}

// turns reports whether the batch changes the state of the rollout, or its plan.
func (b *batch) turns() (turned, edited bool) {
	now, before := &b.record.Machine, &b.r.record.Machine
	turned = now.State != before.State || now.Grants != before.Grants
	edited = len(b.lines) > 0 && b.lines[len(b.lines)-1].Name == fsm.EventEdited
	return turned, edited
}

// store stores the batch. If it changes whether updates may execute, it waits for those that are
// made meanwhile; others are made on hold.
func (b *batch) store(ctx context.Context) error {
	if turned, edited := b.turns(); turned || edited {
		b.r.turning.Lock()
		defer b.r.turning.Unlock()
		b.r.turns++
	}
	b.record.Changed = time.Now()
	return b.r.m.db.CommitRollouts(ctx, b.changes(store.ReplaceRollout{Rollout: b.record})...)
}

// commit stores the batch, and then carries its actions out. The batch is over, unless that fails.
func (b *batch) commit(ctx context.Context) error {
	r := b.r
	if b.changed {
		if err := b.store(ctx); err != nil {
			return storeError(err)
		}
		b.record.Revision++
		b.record.Lines += uint64(len(b.lines))
		r.stored(b)
	} else {
		r.record.Machine.Now = b.record.Machine.Now // time has passed, which is not worth a commit
	}
	for i := range b.parts {
		if p := &b.parts[i]; p.do != fsm.ActionNone {
			r.act(ctx, *p.m, p.do)
		}
	}
	b.free()
	return nil
}

// storeError returns the error of a commit; what the store does not take is the caller's fault.
func storeError(err error) error {
	if errors.Is(err, store.ErrInvalid) {
		return invalid("request", "cannot be stored: %v", err)
	}
	return err
}
