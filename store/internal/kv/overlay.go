package kv

import (
	"bytes"
	"strings"
)

// An overlay is a transaction inside a transaction: it keeps the writes of one commit until all its
// changes have succeeded.
type overlay struct {
	base   Writer
	writes [Tables]map[string][]byte // nil means deleted
}

func (o *overlay) get(t Table, key []byte) []byte {
	if value, ok := o.writes[t][string(key)]; ok {
		return value
	}
	return o.base.Get(t, key)
}

func (o *overlay) has(t Table, key []byte) bool { return o.get(t, key) != nil }

func (o *overlay) put(t Table, key, value []byte) {
	if o.writes[t] == nil {
		o.writes[t] = make(map[string][]byte)
	}
	o.writes[t][string(key)] = value
}

func (o *overlay) delete(t Table, key []byte) { o.put(t, key, nil) }

// first returns the lowest key from from on that has the prefix, or nil.
func (o *overlay) first(t Table, prefix, from []byte) []byte {
	var found []byte
	for key := range o.base.Ascend(t, from) {
		if !bytes.HasPrefix(key, prefix) {
			break
		}
		if value, ok := o.writes[t][string(key)]; !ok || value != nil {
			found = bytes.Clone(key)
			break
		}
	}
	for key, value := range o.writes[t] {
		if value != nil && strings.HasPrefix(key, string(prefix)) && key >= string(from) &&
			(found == nil || key < string(found)) {
			found = []byte(key)
		}
	}
	return found
}

// sweep deletes the entries whose key has the prefix and that match, and returns their keys.
func (o *overlay) sweep(t Table, prefix []byte, match func(key, value []byte) bool) [][]byte {
	var found [][]byte
	for key, value := range o.base.Ascend(t, prefix) {
		if !bytes.HasPrefix(key, prefix) {
			break
		}
		if _, ok := o.writes[t][string(key)]; !ok && match(key, value) {
			found = append(found, bytes.Clone(key))
		}
	}
	for key, value := range o.writes[t] {
		if value != nil && strings.HasPrefix(key, string(prefix)) && match([]byte(key), value) {
			found = append(found, []byte(key))
		}
	}
	for _, key := range found {
		o.delete(t, key)
	}
	return found
}

// flush writes the overlay into the transaction.
func (o *overlay) flush() error {
	for t, writes := range o.writes {
		for key, value := range writes {
			var err error
			if value == nil {
				err = o.base.Delete(Table(t), []byte(key))
			} else {
				err = o.base.Put(Table(t), []byte(key), value)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
