package kv

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math"
	"strconv"

	"github.com/otago-iot/otago/internal/record"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/page"
)

var (
	rolloutKind = kind[store.Rollout]{
		kind: store.KindRollout, table: rollouts, name: name,
		append: withoutKey(rolloutCodec), parse: rolloutCodec.Decode,
		key: func(r *store.Rollout, key []byte) { r.ID = string(key) },
	}
	memberKind = kind[store.Member]{
		kind: store.KindMember, table: members,
		name: func(key []byte) string { return string(text(key)) + " " + string(unordered(rest(key))) },
		append: func(b []byte, m *store.Member) ([]byte, error) {
			return memberCodec.AppendRange(b, m, 3, math.MaxUint64) // the key has rollout and endpoint
		},
		parse: memberCodec.Decode,
		key: func(m *store.Member, key []byte) {
			m.Rollout, m.Endpoint = string(text(key)), string(unordered(rest(key)))
		},
	}
	rolloutEventKind = kind[store.RolloutEvent]{
		kind: store.KindRolloutEvent, table: rolloutEvents,
		name: func(key []byte) string {
			return string(text(key)) + " " + strconv.FormatUint(parseNumber(rest(key)), 10)
		},
		append: func(b []byte, e *store.RolloutEvent) ([]byte, error) {
			return rolloutEventCodec.AppendRange(b, e, 3, math.MaxUint64)
		},
		parse: rolloutEventCodec.Decode,
		key: func(e *store.RolloutEvent, key []byte) {
			e.Rollout, e.Seq = string(text(key)), parseNumber(rest(key))
		},
	}
	rolloutCodec      = record.Of[store.Rollout]()
	memberCodec       = record.Of[store.Member]()
	rolloutEventCodec = record.Of[store.RolloutEvent]()
)

// CommitRollouts implements store.Rollouts.
func (s *Store) CommitRollouts(ctx context.Context, changes ...store.RolloutChange) error {
	if err := ctx.Err(); err != nil || len(changes) == 0 {
		return err
	}
	c := s.newCommit()
	for _, change := range changes {
		var err error
		if puts, ok := change.(store.PutMembers); ok {
			change, err = encodeMembers(puts)
		} else {
			change, err = store.NormalizeRollout(change)
		}
		if err != nil {
			s.free(c)
			return err
		}
		c.rollouts = append(c.rollouts, change)
	}
	_, err := s.commit(ctx, c)
	return err
}

func applyRollouts(o *overlay, changes []store.RolloutChange) (err error) {
	for _, c := range changes {
		switch c := c.(type) {
		case store.CreateRollout:
			err = createRollout(o, c.Rollout)
		case store.ReplaceRollout:
			err = replaceRollout(o, c.Rollout)
		case *memberPuts:
			err = putMembers(o, c)
		case store.AppendRolloutEvents:
			err = appendRolloutEvents(o, c)
		case store.DeleteRollout:
			err = deleteRollout(o, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func createRollout(o *overlay, r store.Rollout) error {
	id := []byte(r.ID)
	switch {
	case o.has(rollouts, id):
		return store.ErrExists
	case !o.has(images, []byte(r.Image)):
		return store.ErrNotFound
	}
	r.Revision, r.Lines = 1, 0
	return putRollout(o, id, &r)
}

func putRollout(o *overlay, id []byte, r *store.Rollout) error {
	if r.Machine.Active() {
		o.put(activeRollouts, id, mark)
	} else {
		o.delete(activeRollouts, id)
	}
	return rolloutKind.put(o, id, r)
}

// loadRollout returns the stored rollout, for a change of it.
func loadRollout(o *overlay, id []byte) (store.Rollout, error) {
	data := o.get(rollouts, id)
	if data == nil {
		return store.Rollout{}, store.ErrNotFound
	}
	return rolloutKind.decode(id, data)
}

func replaceRollout(o *overlay, r store.Rollout) error {
	id := []byte(r.ID)
	old, err := loadRollout(o, id)
	switch {
	case err != nil:
		return err
	case old.Revision != r.Revision:
		return store.ErrConflict
	}
	r.Revision++
	r.Image, r.Lines, r.Created = old.Image, old.Lines, old.Created
	return putRollout(o, id, &r)
}

func appendRolloutEvents(o *overlay, c store.AppendRolloutEvents) error {
	r, err := loadRollout(o, []byte(c.Rollout))
	if err != nil {
		return err
	}
	for i := range c.Events {
		r.Lines++
		if err := rolloutEventKind.put(o, join(c.Rollout, number(r.Lines)), &c.Events[i]); err != nil {
			return err
		}
	}
	return rolloutKind.put(o, []byte(c.Rollout), &r)
}

func deleteRollout(o *overlay, c store.DeleteRollout) error {
	r, err := loadRollout(o, []byte(c.ID))
	switch {
	case c.Damaged && errors.Is(err, store.ErrDamaged):
	case err != nil:
		return err
	case r.Machine.Active():
		return store.ErrInUse
	}
	left := c.Limit
	for _, t := range []Table{members, memberNames, memberOrder, rolloutEvents} {
		for left > 0 {
			key := o.first(t, join(c.ID, ""))
			if key == nil {
				break
			}
			o.delete(t, bytes.Clone(key))
			left--
		}
	}
	if left > 0 {
		o.delete(activeRollouts, []byte(c.ID))
		o.delete(rollouts, []byte(c.ID))
	}
	return nil
}

// Rollout implements store.Rollouts.
func (s *Store) Rollout(ctx context.Context, id string) (store.Rollout, error) {
	return get(ctx, s, &rolloutKind, id)
}

// RolloutList implements store.Rollouts.
func (s *Store) RolloutList(ctx context.Context, q store.RolloutQuery) iter.Seq2[store.Rollout, error] {
	sc := scan{table: rollouts, down: true}
	if q.Active {
		sc.table = activeRollouts
	}
	if q.After != "" {
		sc.last = []byte(q.After)
	}
	load := func(r Reader, key, _ []byte) (store.Rollout, bool, error) {
		found, err := rolloutKind.decode(key, r.Get(rollouts, key))
		return found, true, err
	}
	return query(ctx, s, sc, q.Limit, load, nil, func(r store.Rollout) store.Rollout { return store.Rollout{ID: r.ID} })
}

// Member implements store.Rollouts.
func (s *Store) Member(ctx context.Context, id, endpoint string) (store.Member, error) {
	return get(ctx, s, &memberKind, string(memberKey(id, endpoint)))
}

// Members implements store.Rollouts.
func (s *Store) Members(ctx context.Context, q store.MemberQuery) iter.Seq2[store.Member, error] {
	sc := scan{table: memberNames, prefix: join(q.Rollout, "")}
	load := func(r Reader, key, _ []byte) (store.Member, bool, error) {
		member := memberKey(q.Rollout, string(rest(key)))
		m, err := memberKind.decode(member, r.Get(members, member))
		return m, true, err
	}
	if prefix := q.Prefix(); prefix != "" {
		sc = scan{table: memberOrder, prefix: join(q.Rollout, prefix)}
		load = func(r Reader, key, _ []byte) (store.Member, bool, error) {
			member := join(q.Rollout, orderOf(rest(key)))
			m, err := memberKind.decode(member, r.Get(members, member))
			if err != nil {
				m = store.MemberAt(q.Rollout, string(rest(key)))
			}
			return m, true, err
		}
	}
	if q.After != "" {
		sc.last = join(q.Rollout, q.After)
	}
	return query(ctx, s, sc, q.Limit, load, nil, func(m store.Member) store.Member { return m })
}

// MembersOf implements store.Rollouts.
func (s *Store) MembersOf(ctx context.Context, endpoints []string) iter.Seq2[store.Member, error] {
	return func(yield func(store.Member, error) bool) {
		left := endpoints
		read := func(found []page.Found[store.Member]) (all []page.Found[store.Member], more bool, err error) {
			part := left[:min(len(left), chunk)]
			left = left[len(part):]
			err = s.view(ctx, func(r Reader) error {
				for id := range r.Ascend(activeRollouts, nil) {
					for _, endpoint := range part {
						key := memberKey(string(id), endpoint)
						if data := r.Get(members, key); data != nil {
							m, err := memberKind.decode(key, data)
							found = append(found, page.Found[store.Member]{Record: m, Selected: true, Damaged: err})
						}
					}
				}
				return nil
			})
			return found, len(left) > 0, err
		}
		page.List[store.Member]{Next: read}.Yield(yield)
	}
}

// RolloutEvents implements store.Rollouts.
func (s *Store) RolloutEvents(ctx context.Context, q store.RolloutEventQuery) iter.Seq2[store.RolloutEvent, error] {
	sc := scan{table: rolloutEvents, prefix: join(q.Rollout, "")}
	if q.After > 0 {
		sc.last = join(q.Rollout, binary.BigEndian.AppendUint64(nil, q.After))
	}
	load := func(_ Reader, key, value []byte) (store.RolloutEvent, bool, error) {
		e, err := rolloutEventKind.decode(key, value)
		return e, true, err
	}
	return query(ctx, s, sc, q.Limit, load, nil, func(e store.RolloutEvent) store.RolloutEvent { return e })
}
