package kv

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	rollout "github.com/otago-iot/otago/firmware/rollout/fsm"
	"github.com/otago-iot/otago/store"
)

// memberPuts is a store.PutMembers whose members are encoded.
type memberPuts struct {
	store.RolloutChange // nil: it makes this one
	rollout             string
	list                []memberPut
}

type memberPut struct {
	key     []byte
	cursors []string // places in the index
	ordered string   // the end of each of them
	class   memberClass
	data    []byte
}

// A memberClass says at which places an index has a member.
type memberClass struct {
	state rollout.MemberState
	place rollout.Place
	skip  rollout.SkipReason
	stage int
	only  uint16
}

func classOf(m *rollout.Member) memberClass {
	c := memberClass{m.State, m.Place, m.Skip, m.Stage, m.Only}
	if m.State == rollout.MemberActive {
		c.place = rollout.PlaceNone
	}
	return c
}

var scratchMembers = sync.Pool{New: func() any { return new(scratchMember) }}

// A scratchMember is memory for an encoder, which would keep what it encodes from being on a stack.
type scratchMember struct {
	m    store.Member
	data []byte
}

// encodeMembers normalizes and encodes members, before the transaction in which others wait.
func encodeMembers(c store.PutMembers) (*memberPuts, error) {
	if _, err := store.NormalizeRollout(store.PutMembers{Rollout: c.Rollout}); err != nil {
		return nil, err
	}
	sc := scratchMembers.Get().(*scratchMember)
	defer scratchMembers.Put(sc)
	puts := &memberPuts{rollout: c.Rollout, list: make([]memberPut, len(c.Members))}
	for i := range c.Members {
		m := &sc.m
		*m = c.Members[i]
		m.Rollout = c.Rollout
		if err := m.Normalize(); err != nil {
			return nil, err
		}
		p := &puts.list[i]
		p.cursors, p.class = m.Cursors(), classOf(&m.Machine)
		p.ordered = p.cursors[0][len(p.cursors[0])-orderDigits-len(m.Endpoint):]
		p.key = join(m.Rollout, p.ordered)
		var err error
		if sc.data, err = memberKind.append(append(sc.data[:0], make([]byte, sealSize)...), m); err != nil {
			return nil, fmt.Errorf("%w: %w", store.ErrInvalid, err)
		}
		p.data = bytes.Clone(sc.data)
		seal(p.key, p.data)
	}
	return puts, nil
}

func putMembers(o *overlay, c *memberPuts) error {
	if !o.has(rollouts, []byte(c.rollout)) {
		return store.ErrNotFound
	}
	for i := range c.list {
		putMember(o, c.rollout, &c.list[i])
	}
	return nil
}

func putMember(o *overlay, id string, p *memberPut) {
	same := false
	if data := o.get(members, p.key); data == nil {
		o.put(memberNames, join(id, unordered([]byte(p.ordered))), mark)
	} else {
		o.member = store.Member{}
		old := &o.member
		content, err := unseal(p.key, data)
		if err == nil {
			err = memberKind.parse(content, old)
		}
		switch same = err == nil && classOf(&old.Machine) == p.class; {
		case err != nil: // its places in the index are not known
			o.sweep(memberOrder, join(id, ""), func(k, _ []byte) bool { return bytes.HasSuffix(k, []byte(p.ordered)) })
		case !same:
			memberKind.key(old, p.key)
			for _, cursor := range old.Cursors() {
				if !slices.Contains(p.cursors, cursor) {
					o.delete(memberOrder, join(id, cursor))
				}
			}
		}
	}
	if !same {
		for _, cursor := range p.cursors {
			o.put(memberOrder, join(id, cursor), mark)
		}
	}
	o.put(members, p.key, p.data)
}

// orderDigits is the length of store.MemberOrder.
const orderDigits = 16

// memberKey returns the key of a member. Members of a rollout are in their order: that is how they
// are updated, so that steps of many members write few pages.
func memberKey(id, endpoint string) []byte {
	return join(id, store.MemberOrder(id, endpoint)+endpoint)
}

// orderOf returns what follows the three words of a cursor, each with a full stop: the digits of
// the order, and the endpoint.
func orderOf(cursor []byte) []byte {
	for range 3 {
		_, cursor, _ = bytes.Cut(cursor, []byte{'.'})
	}
	return cursor
}

// unordered returns the endpoint that follows the digits of the order.
func unordered(ordered []byte) []byte { return ordered[min(orderDigits, len(ordered)):] }
