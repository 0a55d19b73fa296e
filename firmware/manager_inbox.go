package firmware

import (
	"slices"
	"sync"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An item is an observation that waits for its step. If a caller waits for the step too, reply
// receives the updated record or an error; it is closed if this process does not make the step.
type item struct {
	fsm.Observation
	reply chan<- reply  // has room for one; nil if no caller waits
	read  fsm.Resources // what the read that has ended was to show; 0 if none has
	save  bool          // no observation: store the steps that are not stored
	tried bool          // a commit of them has failed, and may be stored
}

// A reply is the result of the step of an item.
type reply struct {
	update Update
	err    error
}

// An inbox holds the observations of an update that wait for their step, oldest first. It is
// bounded, even if the store refuses steps for hours.
type inbox []item

// maxInbox is more than the number of kinds, so a full inbox holds one kind twice.
const maxInbox = 32

// inboxes are memory of empty inboxes. Most updates wait for their device, with an empty one.
var inboxes = sync.Pool{New: func() any { return new([2]item) }}

// add appends an observation. If there are too many, it removes the oldest one that a later one of
// the same kind replaces: of repeated events of a device the last counts, and of two ended actions
// the one that began later. An item with a caller always stays; each call adds one.
func (b *inbox) add(l item) {
	switch l.Kind {
	case fsm.ObserveHint, fsm.ObserveTimer, fsm.ObserveProgress, fsm.ObserveConnectionFailed, fsm.ObserveObjectChanged:
		// Two observations of these kinds say no more than the later one.
		same := func(queued item) bool { return queued.Kind == l.Kind && queued.reply == nil }
		if i := slices.IndexFunc(*b, same); i >= 0 {
			if l.Reading.State != (*b)[i].Reading.State {
				l.Reading.State = fsm.Field[fsm.State]{} // two hints: only a read shows what they mean
			}
			(*b)[i] = l
			return
		}
	}
	if *b == nil {
		*b = inboxes.Get().(*[2]item)[:0]
	}
	*b = append(*b, l)
	if len(*b) <= maxInbox {
		return
	}
	for i, old := range *b {
		same := func(queued item) bool { return queued.Kind == old.Kind }
		if old.reply == nil && slices.ContainsFunc((*b)[i+1:], same) {
			*b = slices.Delete(*b, i, i+1)
			return
		}
	}
}

// first inserts observations before all others, in order.
func (b *inbox) first(items ...item) { *b = slices.Insert(*b, 0, items...) }

// next removes and returns the first observation; there is one.
func (b *inbox) next() item {
	l := (*b)[0]
	if *b = slices.Delete(*b, 0, 1); len(*b) == 0 {
		if cap(*b) == 2 {
			inboxes.Put((*[2]item)((*b)[:2]))
		}
		*b = nil
	}
	return l
}

// refuse answers all callers that this process does not make their steps.
func (b *inbox) refuse() {
	for i := range *b {
		(*b)[i].answer(nil, nil)
	}
	*b = nil
}

// answer passes a caller the updated record or an error. If both are nil, this process did not make
// the step.
func (l *item) answer(u *Update, err error) {
	if l.reply == nil {
		return
	}
	switch {
	case err != nil:
		l.reply <- reply{err: err}
	case u != nil:
		l.reply <- reply{update: clone(u)}
	}
	close(l.reply)
}
