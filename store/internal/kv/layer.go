package kv

import (
	"bytes"
	"iter"

	"github.com/otago-iot/otago/store"
)

// A writeSet is the writes of a layer: a nil value stands for a key that is deleted.
type writeSet [Tables]Map

func (m *writeSet) reset() {
	for t := range m {
		m[t].Reset()
	}
}

// merge adds newer writes.
func (m *writeSet) merge(newer *writeSet) {
	for t := range newer {
		for key, value := range newer[t].Ascend(nil) {
			m[t].Put(key, value)
		}
	}
}

// apply writes into a transaction, each table by rising key.
func (m *writeSet) apply(w Writer) error {
	for t := range m {
		for key, value := range m[t].Ascend(nil) {
			var err error
			if value == nil {
				err = w.Delete(Table(t), key)
			} else {
				err = w.Put(Table(t), key, value)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// A layer is a transaction over another one: it shows what base has with the writes on top, and
// keeps new writes to itself.
type layer struct {
	base   Reader
	writes *writeSet
}

func (l *layer) Get(t Table, key []byte) []byte {
	if value, ok := l.writes[t].Get(key); ok {
		return value
	}
	return l.base.Get(t, key)
}

func (l *layer) Put(t Table, key, value []byte) error {
	l.writes[t].Put(key, value)
	return nil
}

func (l *layer) Delete(t Table, key []byte) error { return l.Put(t, key, nil) }

func (l *layer) Ascend(t Table, from []byte) iter.Seq2[[]byte, []byte] {
	if l.writes[t].empty() {
		return l.base.Ascend(t, from)
	}
	page, at, _ := l.writes[t].find(from)
	return overlaid(cursor{&l.writes[t], page, at, 1}, l.base.Ascend(t, from))
}

func (l *layer) Descend(t Table, before []byte) iter.Seq2[[]byte, []byte] {
	if l.writes[t].empty() {
		return l.base.Descend(t, before)
	}
	page, at := len(l.writes[t].pages), 0
	if before != nil {
		page, at, _ = l.writes[t].find(before)
	}
	c := cursor{&l.writes[t], page, at, -1}
	c.move()
	return overlaid(c, l.base.Descend(t, before))
}

// overlaid yields the entries of a map from a cursor on, and of a sequence, in their order. Of two
// with the same key it yields that of the map, if it has a value.
func overlaid(from cursor, lower iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		c := from
		for below, value := range lower {
			order := 1
			e, ok := c.entry()
			for ; ok; e, ok = c.entry() {
				if order = c.step * bytes.Compare(e.key, below); order > 0 {
					break
				}
				c.move()
				if e.value != nil && !yield(e.key, e.value) {
					return
				}
				if order == 0 {
					break
				}
			}
			if order != 0 && !yield(below, value) {
				return
			}
		}
		for e, ok := c.entry(); ok; e, ok = c.entry() {
			c.move()
			if e.value != nil && !yield(e.key, e.value) {
				return
			}
		}
	}
}

// An overlay is a layer for the changes of one commit.
type overlay struct {
	layer
	buffer  []byte       // for records; of no use between calls
	journal journalIndex // likewise
	run     run          // likewise
	device  store.Device // likewise
	update  store.Update // likewise
	member  store.Member // likewise
}

func newOverlay() *overlay { return &overlay{layer: layer{writes: new(writeSet)}} }

func (o *overlay) get(t Table, key []byte) []byte { return o.Get(t, key) }

func (o *overlay) has(t Table, key []byte) bool { return o.Get(t, key) != nil }

func (o *overlay) put(t Table, key, value []byte) { o.writes[t].Put(key, value) }

func (o *overlay) delete(t Table, key []byte) { o.writes[t].Put(key, nil) }

// first returns the lowest key that has the prefix, or nil.
func (o *overlay) first(t Table, prefix []byte) []byte {
	for key := range o.Ascend(t, prefix) {
		if bytes.HasPrefix(key, prefix) {
			return bytes.Clone(key)
		}
		break
	}
	return nil
}

// sweep deletes the entries whose key has the prefix and that match, and returns their keys.
func (o *overlay) sweep(t Table, prefix []byte, match func(key, value []byte) bool) [][]byte {
	var found [][]byte
	for key, value := range o.Ascend(t, prefix) {
		if !bytes.HasPrefix(key, prefix) {
			break
		}
		if match(key, value) {
			found = append(found, bytes.Clone(key))
		}
	}
	for _, key := range found {
		o.delete(t, key)
	}
	return found
}
