package firmware

import (
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A item is an observation on its way to the machine. Somebody may wait for its step: then reply receives the update that
// follows, or why there is none, or is closed if the step is not made here.
type item struct {
	fsm.Observation
	reply chan<- reply // has room for one; nil if nobody waits
}

// A reply is what became of a item.
type reply struct {
	update Update
	err    error
}

// An inbox holds the observations of an update that wait for their step, oldest first. It is short, also while the store
// refuses steps for hours and a device or a network does what it likes.
type inbox []item

// maxInbox is more than there are kinds of observations, so that in a full inbox one is there twice.
const maxInbox = 32

// add puts an observation last. When there are too many, the oldest goes that is followed by another of its kind: of what a
// device does again and again the last time counts, of two actions that ended the one that began later. What somebody waits
// for always stays: there is one for each call.
func (b *inbox) add(l item) {
	switch l.Kind {
	case fsm.ObserveHint, fsm.ObserveTimer, fsm.ObserveProgress, fsm.ObserveConnectionFailed, fsm.ObserveObjectChanged:
		// One of these says as much as two; the later one more.
		same := func(queued item) bool { return queued.Kind == l.Kind && queued.reply == nil }
		if i := slices.IndexFunc(*b, same); i >= 0 {
			(*b)[i] = l
			return
		}
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

// first puts observations before all others, in their order.
func (b *inbox) first(items ...item) { *b = slices.Insert(*b, 0, items...) }

// next takes the first observation; there is one.
func (b *inbox) next() item {
	l := (*b)[0]
	if *b = slices.Delete(*b, 0, 1); len(*b) == 0 {
		*b = nil
	}
	return l
}

// refuse tells those who wait that nothing comes of it here.
func (b *inbox) refuse() {
	for _, l := range *b {
		l.answer(nil, nil)
	}
	*b = nil
}

// answer tells who waits for a step what followed, or why nothing did; two nils: the step was not made here.
func (l item) answer(u *Update, err error) {
	if l.reply == nil {
		return
	}
	switch {
	case err != nil:
		l.reply <- reply{err: err}
	case u != nil:
		l.reply <- reply{update: clone(*u)}
	}
	close(l.reply)
}
