package firmware

import (
	"slices"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An inbox holds the observations of an update that wait for their step, oldest first. It is short, also while the store
// refuses steps for hours and a device or a network does what it likes.
type inbox []fsm.Observation

// maxInbox is more than there are kinds of observations, so that in a full inbox one is there twice.
const maxInbox = 16

// add puts an observation last. When there are too many, the oldest goes that is followed by another of its kind: of what a
// device does again and again the last time counts, of two actions that ended the one that began later, and the only
// request to cancel, or the only registration after a restart, always stays.
func (b *inbox) add(o fsm.Observation) {
	switch o.Kind {
	case fsm.ObserveHint, fsm.ObserveTimer, fsm.ObserveProgress:
		// One of these says as much as two; the later one more.
		same := func(queued fsm.Observation) bool { return queued.Kind == o.Kind }
		if i := slices.IndexFunc(*b, same); i >= 0 {
			(*b)[i] = o
			return
		}
	}
	*b = append(*b, o)
	if len(*b) <= maxInbox {
		return
	}
	for i, old := range *b {
		same := func(queued fsm.Observation) bool { return queued.Kind == old.Kind }
		if slices.ContainsFunc((*b)[i+1:], same) {
			*b = slices.Delete(*b, i, i+1)
			return
		}
	}
}

// first puts an observation before all others.
func (b *inbox) first(o fsm.Observation) { *b = slices.Insert(*b, 0, o) }

// next takes the first observation; there is one.
func (b *inbox) next() fsm.Observation {
	o := (*b)[0]
	if *b = slices.Delete(*b, 0, 1); len(*b) == 0 {
		*b = nil
	}
	return o
}
