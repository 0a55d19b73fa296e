// Package index finds values by their keys, in a fraction of the memory that a map with large keys
// takes.
package index

import (
	"hash/maphash"
	"iter"
)

// Index finds values by keys that the values hold themselves. The key of a value must not change
// while it is in the index. It is not safe for concurrent use.
type Index[K comparable, V any] struct {
	key    func(*V) K
	hash   func(K) uint64
	byHash map[uint64]*V
	more   map[K]*V // those whose hash is that of another value
}

// New returns an empty index. key returns the key of a value.
func New[K comparable, V any](key func(*V) K) Index[K, V] {
	seed := maphash.MakeSeed()
	return Index[K, V]{key: key, hash: func(k K) uint64 { return maphash.Comparable(seed, k) }, byHash: make(map[uint64]*V)}
}

// Len returns the number of values.
func (x *Index[K, V]) Len() int { return len(x.byHash) + len(x.more) }

// Get returns the value with a key, or nil.
func (x *Index[K, V]) Get(k K) *V {
	if v := x.byHash[x.hash(k)]; v != nil && x.key(v) == k {
		return v
	}
	return x.more[k]
}

// Put enters a value, in place of another with its key.
func (x *Index[K, V]) Put(v *V) {
	k := x.key(v)
	h := x.hash(k)
	other := x.byHash[h]
	switch {
	case x.more[k] != nil, other != nil && x.key(other) != k:
		if x.more == nil {
			x.more = make(map[K]*V)
		}
		x.more[k] = v
	default:
		x.byHash[h] = v
	}
}

// Delete removes the value with a key, if there is one.
func (x *Index[K, V]) Delete(k K) {
	h := x.hash(k)
	if v := x.byHash[h]; v != nil && x.key(v) == k {
		delete(x.byHash, h)
		return
	}
	delete(x.more, k)
}

// All returns the values in no order.
func (x *Index[K, V]) All() iter.Seq[*V] {
	return func(yield func(*V) bool) {
		for _, v := range x.byHash {
			if !yield(v) {
				return
			}
		}
		for _, v := range x.more {
			if !yield(v) {
				return
			}
		}
	}
}
