package kv

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A list is an index of updates: its entries with the prefix, the ids of updates follow.
type list struct {
	table  Table
	prefix []byte
}

// lists returns lists of updates, each by rising id: the query selects those that are in all of
// them, or all if there is none. The first is short as a rule.
func lists(q store.UpdateQuery) []list {
	var all []list
	add := func(t Table, prefix []byte) { all = append(all, list{t, prefix}) }
	if q.Endpoint != "" {
		add(byEndpoint, join(q.Endpoint, ""))
	}
	if q.Active && q.Image == "" {
		add(active, nil)
	} else if q.Active {
		add(activeImages, join(q.Image, ""))
	}
	byOutcome := list{byOutcome, join(string(q.Outcome), "")}
	rare := q.Outcome != fsm.OutcomeNone && q.Outcome != fsm.OutcomeSucceeded && !q.ByEnd
	if rare {
		all = append(all, byOutcome)
	}
	if len(q.Labels) > 0 {
		for _, name := range slices.Sorted(maps.Keys(q.Labels)) {
			add(byLabel, labelKey(name, q.Labels[name], ""))
		}
	}
	if q.Image != "" && !q.Active {
		add(byImage, join(q.Image, ""))
	}
	if q.Outcome != fsm.OutcomeNone && !rare && !q.ByEnd {
		all = append(all, byOutcome)
	}
	return all
}

// Updates implements store.Store.
func (s *Store) Updates(ctx context.Context, q store.UpdateQuery) iter.Seq2[store.Update, error] {
	others := lists(q)
	sc := scan{down: !q.Oldest}
	switch {
	case q.ByEnd:
		sc.table, sc.prefix = byEnd, join(string(q.Outcome), "")
	case q.Key != "":
		sc = scan{table: updateKeys, prefix: []byte(q.Key), exact: true}
	case q.Active && q.Endpoint != "":
		sc = scan{table: activeOf, prefix: []byte(q.Endpoint), exact: true}
	case len(others) == 0:
		sc.table = updates
	default:
		sc.table, sc.prefix, others = others[0].table, others[0].prefix, others[1:]
	}
	switch {
	case q.After == "" || sc.exact:
	case q.ByEnd:
		sc.last = endKey(q.Outcome, q.AfterEnd, q.After)
	default:
		sc.last = append(bytes.Clone(sc.prefix), q.After...)
	}
	prefix, exact := len(sc.prefix), sc.exact
	idOf := func(key, value []byte) []byte {
		switch {
		case exact:
			return value
		case q.ByEnd:
			_, id := endIn(key[prefix:])
			return id
		}
		return key[prefix:]
	}
	// bare returns what the key of an entry says of an update.
	bare := func(key, value []byte) store.Update {
		u := store.Update{ID: string(idOf(key, value))}
		if q.ByEnd {
			u.Machine.Outcome = q.Outcome
			u.Machine.Ended, _ = endIn(key[prefix:])
		}
		return u
	}
	sc.skip = q.Skip
	sc.match = func(r Reader, key, value []byte) bool {
		id := idOf(key, value)
		for _, other := range others {
			if r.Get(other.table, append(bytes.Clone(other.prefix), id...)) == nil {
				return false
			}
		}
		return q.ByEnd || follows(q, string(id))
	}
	load := func(r Reader, key, value []byte) (store.Update, bool, error) {
		id := idOf(key, value)
		if !sc.match(r, key, value) {
			return bare(key, value), false, nil
		}
		u, err := updateKind.decode(id, r.Get(updates, id))
		if err != nil {
			u = bare(key, value)
			u.Endpoint, u.Image, u.Key = q.Endpoint, q.Image, q.Key
		}
		return u, true, err
	}
	return query(ctx, s, sc, q.Limit, load, q.Filter, func(u store.Update) store.Update {
		short := store.Update{ID: u.ID}
		if q.ByEnd {
			short.Machine.Outcome, short.Machine.Ended = q.Outcome, u.End()
		}
		return short
	})
}

// follows reports whether an id comes after the page before.
func follows(q store.UpdateQuery, id string) bool {
	return q.After == "" || q.Oldest && id > q.After || !q.Oldest && id < q.After
}
