package rollout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/internal/ulid"
	"github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

const (
	// chunk is how many members one commit of a creation has.
	chunk = 1000
	// ahead is how many targets of a list are taken at a time, to be stored in the order of the
	// members: stores write each part of their table once then.
	ahead = 50 * chunk
)

// Create makes a rollout, and takes its members from the request's Targets or Select. If there are
// none it stays a draft, also with Start.
//
// If ctx ends or the process dies before Create returns, a rollout with Select takes the rest of
// its members by itself, from where it stood. One with more than 1000 Targets ends, because the
// rest of its targets is not known: it is stopped before it has begun. Up to 50,000 Targets are
// named before the first of them is stored.
//
// The error is ErrInvalid; ErrRefused; store.ErrNotFound if there is no such image; store.ErrExists
// if a rollout has the request's ID; what the targets returned; or that of the store.
func (m *Manager) Create(ctx context.Context, q Request) (Rollout, error) {
	now := time.Now()
	plan, asked, err := m.check(&q, now)
	if err != nil {
		return Rollout{}, err
	}
	text, err := asked.text()
	if err != nil {
		return Rollout{}, err
	}
	record := Rollout{
		ID: cmp.Or(q.ID, ulid.New(now)), Name: q.Name, Image: q.Image, Request: text,
		Machine: fsm.NewRollout(plan, now), Created: now, Changed: now,
	}
	if err := m.allow(ctx, q.Actor, ActionCreate, record); err != nil {
		return Rollout{}, err
	}
	if q.Key != "" {
		unlock, err := m.locks.LockContext(ctx, "key "+q.Key)
		if err != nil {
			return Rollout{}, err
		}
		defer unlock()
		if made, err := m.made(ctx, &q, now); !errors.Is(err, store.ErrNotFound) {
			return made, err
		}
	}
	if q.Select != nil {
		return m.createSelected(ctx, record, q.Actor)
	}
	return m.createListed(ctx, record, &q)
}

// createSelected makes a rollout whose members are selected, and takes them. Its runner does the
// same, if Run runs: each goes on where the other one stands.
func (m *Manager) createSelected(ctx context.Context, record Rollout, actor string) (Rollout, error) {
	if err := m.db.CommitRollouts(ctx, store.CreateRollout{Rollout: record}); err != nil {
		return Rollout{}, err
	}
	record.Revision = 1
	m.launch(record)
	for !record.Machine.Filled && record.Machine.State == fsm.StateDraft {
		r, err := m.do(ctx, record.ID, actor, func(ctx context.Context, b *batch) error { return b.fill(ctx) })
		if errors.Is(err, ErrInvalid) {
			m.abandon(ctx, record.ID, err)
		}
		if err != nil && !errors.Is(err, ErrState) {
			return record, err
		}
		record = r
	}
	return record, nil
}

// fill adds the next members of a draft with Select, and starts it after the last ones if the
// request says so.
func (b *batch) fill(ctx context.Context) error {
	if b.record.Machine.State != fsm.StateDraft || b.record.Machine.Filled {
		return nil
	}
	asked, err := parseStored(&b.record)
	if err != nil {
		return err
	}
	last := true
	for d, err := range b.r.m.updates.Select(ctx, *asked.Select, asked.After, chunk) {
		if d.Endpoint != "" {
			asked.After, last = d.Endpoint, false
		}
		switch {
		case errors.Is(err, store.ErrShort):
			continue
		case errors.Is(err, store.ErrDamaged):
			b.r.m.log.Warn("a damaged device is no member of a rollout", "rollout", b.record.ID, "endpoint", d.Endpoint, "error", err)
			continue
		case err != nil:
			return err
		}
		if err := b.add(ctx, &asked, &d.Device); err != nil {
			return err
		}
		if b.record.Machine.Total.Targets() > MaxTargets {
			return invalid("targets", "are more than %d", MaxTargets)
		}
	}
	b.changed = true
	if last {
		b.filled(&asked)
	}
	b.record.Request, err = asked.text()
	return err
}

// filled notes that a draft has its members.
func (b *batch) filled(asked *stored) {
	b.actor = cmp.Or(b.actor, asked.Actor)
	b.rollout(fsm.Input{Kind: fsm.InputFilled})
	if asked.Start {
		b.rollout(fsm.Input{Kind: fsm.InputStart})
	}
}

// createListed makes a rollout whose members are listed: at once, if one commit holds them.
func (m *Manager) createListed(ctx context.Context, record Rollout, q *Request) (Rollout, error) {
	m.setFilling(record.ID, true)
	defer m.setFilling(record.ID, false)
	created := false
	flush := func(list []string, last bool) error {
		if !created {
			r, err := m.createFirst(ctx, record, list, last)
			if err == nil {
				created, record = true, r
			}
			return err
		}
		r, err := m.do(ctx, record.ID, q.Actor, func(ctx context.Context, b *batch) error { return b.list(ctx, list, last) })
		if err == nil || errors.Is(err, ErrState) {
			record, err = r, nil
		}
		if err == nil && record.Machine.State != fsm.StateDraft && !record.Machine.Filled {
			err = fmt.Errorf("%w: it was stopped while it took its members", ErrState)
		}
		return err
	}
	var held []string
	err := m.eachTarget(ctx, q, func(list []string, last bool) error {
		if held = append(held, list...); len(held) < ahead && !last {
			return nil
		}
		err := inOrder(record.ID, held, last, flush)
		held = held[:0]
		return err
	})
	if err != nil && created {
		m.abandon(ctx, record.ID, err)
	}
	return record, err
}

// eachTarget calls flush with the targets, a chunk at a time.
func (m *Manager) eachTarget(ctx context.Context, q *Request, flush func(list []string, last bool) error) error {
	list := make([]string, 0, chunk)
	n := 0
	for endpoint, err := range q.Targets {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := checkEndpoint(endpoint, fmt.Sprintf("targets.endpoints[%d]", n)); err != nil {
			return err
		}
		if n++; n > MaxTargets {
			return invalid("targets", "are more than %d", MaxTargets)
		}
		if len(list) == chunk {
			if err := flush(list, false); err != nil {
				return err
			}
			list = list[:0]
		}
		list = append(list, endpoint)
	}
	return flush(list, true)
}

// inOrder calls flush with chunks of a list, in the order of members; last says that no other list
// follows.
func inOrder(id string, list []string, last bool, flush func(list []string, last bool) error) error {
	order := make(map[string]string, len(list))
	for _, endpoint := range list {
		order[endpoint] = store.MemberOrder(id, endpoint)
	}
	slices.SortFunc(list, func(a, b string) int { return strings.Compare(order[a], order[b]) })
	for len(list) > chunk {
		if err := flush(list[:chunk], false); err != nil {
			return err
		}
		list = list[chunk:]
	}
	return flush(list, last)
}

// createFirst stores a new rollout with its first members.
func (m *Manager) createFirst(ctx context.Context, record Rollout, list []string, last bool) (Rollout, error) {
	b := newRunner(m, record).begin()
	if err := b.list(ctx, list, last); err != nil {
		return record, err
	}
	if err := m.db.CommitRollouts(ctx, b.changes(store.CreateRollout{Rollout: b.record})...); err != nil {
		return record, storeError(err)
	}
	record = b.record
	record.Revision, record.Lines = 1, uint64(len(b.lines))
	m.launch(record)
	return record, nil
}

// list adds endpoints to a draft.
func (b *batch) list(ctx context.Context, list []string, last bool) error {
	if b.record.Machine.State != fsm.StateDraft || b.record.Machine.Filled {
		return nil
	}
	asked, err := parseStored(&b.record)
	if err != nil {
		return err
	}
	members, err := b.membersIn(ctx, list)
	if err != nil {
		return err
	}
	for _, endpoint := range list {
		if _, twice := members[endpoint]; twice {
			continue
		}
		members[endpoint] = struct{}{}
		d, err := b.r.m.device(ctx, endpoint)
		if err != nil {
			return err
		}
		if err := b.addNew(ctx, &asked, &d); err != nil {
			return err
		}
	}
	if last {
		b.filled(&asked)
	}
	return nil
}

// membersIn returns those of a list that are members already.
func (b *batch) membersIn(ctx context.Context, list []string) (map[string]struct{}, error) {
	members := make(map[string]struct{}, len(list))
	if b.record.Revision == 0 { // it is not stored yet
		return members, nil
	}
	for m, err := range b.r.m.db.MembersOf(ctx, list) {
		if err != nil && (!errors.Is(err, store.ErrDamaged) || m.Rollout == b.record.ID) {
			return nil, err
		}
		if m.Rollout == b.record.ID {
			members[m.Endpoint] = struct{}{}
		}
	}
	return members, nil
}

// add makes a device a member, unless it is one.
func (b *batch) add(ctx context.Context, asked *stored, d *store.Device) error {
	m, err := b.load(ctx, d.Endpoint)
	if m != nil || err != nil {
		return err
	}
	return b.addNew(ctx, asked, d)
}

// addNew makes a device a member, which is none.
func (b *batch) addNew(ctx context.Context, asked *stored, d *store.Device) error {
	image, err := b.r.target(ctx)
	if err != nil {
		return err
	}
	m := &Member{Rollout: b.record.ID, Endpoint: d.Endpoint, Zone: zoneOfDevice(d)}
	b.stepMember(m, fsm.Input{Kind: fsm.InputAdd, Only: asked.only(d), Skip: b.r.m.judge(asked, image, d)})
	return nil
}

// setFilling notes whether a Create names the members of a rollout.
func (m *Manager) setFilling(id string, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if yes {
		m.filling[id] = struct{}{}
	} else {
		delete(m.filling, id)
	}
}

// isFilling reports whether a Create names the members of a rollout.
func (m *Manager) isFilling(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, yes := m.filling[id]
	return yes
}

// abandon ends a draft whose targets were not all named.
func (m *Manager) abandon(ctx context.Context, id string, why error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_, err := m.do(ctx, id, "", func(_ context.Context, b *batch) error {
		b.abandon("its targets were not all named: " + clip(why.Error(), store.MaxDetail/2))
		return nil
	})
	if err != nil && !errors.Is(err, ErrState) {
		m.log.Error("a rollout without all its members does not end for now", "rollout", id, "error", err)
	}
}

func (b *batch) abandon(why string) {
	if b.record.Machine.State == fsm.StateDraft && !b.record.Machine.Filled {
		b.rollout(fsm.Input{Kind: fsm.InputStop, Cancels: true, Text: why})
	}
}
