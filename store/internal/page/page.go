// Package page yields a list of records that a back end reads part by part, by the rules that the
// lists of all back ends follow.
package page

import "github.com/otago-iot/otago/store"

// A Found is what a back end has read: a record, or what is certain of a damaged record.
type Found[T any] struct {
	Record   T // of one that is not selected, only what Bare needs
	Selected bool
	Damaged  error
}

// A List is a list of records.
type List[T any] struct {
	// Limit is how many records the list yields at most; 0 means all. With a limit, the list ends
	// early after store.MaxSkipped records that are not selected: see store.ErrShort.
	Limit int
	// Keep selects records, beside what Next has selected. It sees no damaged ones. Nil keeps all.
	Keep func(T) bool
	// Bare returns what goes with store.ErrShort: so much of the last record that was read that the
	// next page can begin after it.
	Bare func(T) T
	// Next appends the records that come next, and reports whether there may be more after them.
	// The body of the caller's loop runs between two calls, so that it can write, and blocks no
	// other caller. An error ends the list after what was read.
	Next func(found []Found[T]) (all []Found[T], more bool, err error)
}

// Yield yields the records, and damaged ones with a store.DamagedError. Any other error ends it.
func (l List[T]) Yield(yield func(T, error) bool) {
	left, skipped := l.Limit, 0
	var found []Found[T]
	for more := true; more; {
		var err error
		found, more, err = l.Next(found[:0])
		for _, f := range found {
			if !f.Selected || l.Keep != nil && f.Damaged == nil && !l.Keep(f.Record) {
				if skipped++; l.Limit > 0 && skipped == store.MaxSkipped {
					yield(l.Bare(f.Record), store.ErrShort)
					return
				}
				continue
			}
			if !yield(f.Record, f.Damaged) {
				return
			}
			if left--; left == 0 {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
			return
		}
	}
}
