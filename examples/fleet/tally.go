package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// tally counts by kind. The zero value is ready.
type tally[K comparable] struct {
	mu     sync.Mutex
	counts map[K]uint64
}

// add counts one more of a kind.
func (t *tally[K]) add(kind K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[K]uint64{}
	}
	t.counts[kind]++
}

// all returns the counts since the start, by the kinds' names.
func (t *tally[K]) all() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make(map[string]uint64, len(t.counts))
	for kind, n := range t.counts {
		names[fmt.Sprint(kind)] += n
	}
	return names
}

// since returns the difference of two counts, without names that did not change.
func since(now, before map[string]uint64) map[string]uint64 {
	d := map[string]uint64{}
	for name, n := range now {
		if n > before[name] {
			d[name] = n - before[name]
		}
	}
	return d
}

// each formats counts for each of n updates, the most frequent first.
func eachKind(counts map[string]uint64, n int) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%.2f %s", ratio(counts[name], n), name)
	}
	return cmp.Or(strings.Join(parts, "; "), "none")
}
