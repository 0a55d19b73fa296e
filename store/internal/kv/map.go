package kv

import (
	"bytes"
	"iter"
	"slices"
	"sort"
)

// maxPage is the largest number of entries in a page. An insertion moves a page and, rarely, the
// list of pages.
const maxPage = 256

// A Map is an ordered map of bytes: pages of sorted entries, none of them empty, in order. It keeps
// the slices that it gets.
type Map struct {
	pages [][]entry
	spare []entry // an empty page that Reset has kept
}

type entry struct{ key, value []byte }

// page returns the index of the page for key; 0 if there is no page.
func (m *Map) page(key []byte) int {
	n := sort.Search(len(m.pages), func(i int) bool { return bytes.Compare(m.pages[i][0].key, key) > 0 })
	return max(n-1, 0)
}

// find returns the place of the first entry from key on, which may be the end of a page.
func (m *Map) find(key []byte) (page, at int, ok bool) {
	page = m.page(key)
	if page == len(m.pages) {
		return page, 0, false
	}
	at, ok = slices.BinarySearchFunc(m.pages[page], key, compare)
	return page, at, ok
}

func compare(e entry, key []byte) int { return bytes.Compare(e.key, key) }

// empty reports whether the map has no entry.
func (m *Map) empty() bool { return len(m.pages) == 0 }

// Get returns the value of a key, and whether the map has the key.
func (m *Map) Get(key []byte) (value []byte, ok bool) {
	page, at, ok := m.find(key)
	if !ok {
		return nil, false
	}
	return m.pages[page][at].value, true
}

// Put sets the value of a key.
func (m *Map) Put(key, value []byte) {
	page, at, ok := m.find(key)
	switch {
	case ok:
		m.pages[page][at].value = value
		return
	case page == len(m.pages):
		m.pages = append(m.pages, m.spare)
		m.spare = nil
	}
	entries := slices.Insert(m.pages[page], at, entry{key, value})
	m.pages[page] = entries
	if len(entries) <= maxPage {
		return
	}
	// Keys that come in order fill their pages: only the newest entry moves to the next page.
	half := len(entries) / 2
	if at == len(entries)-1 {
		half = at
	}
	second := slices.Clone(entries[half:])
	m.pages[page] = slices.Delete(entries, half, len(entries))
	m.pages = slices.Insert(m.pages, page+1, second)
}

// Delete removes a key.
func (m *Map) Delete(key []byte) {
	page, at, ok := m.find(key)
	if !ok {
		return
	}
	m.pages[page] = slices.Delete(m.pages[page], at, at+1)
	if len(m.pages[page]) == 0 {
		m.pages = slices.Delete(m.pages, page, page+1)
	}
}

// Reset removes all entries, and keeps memory for those that come next.
func (m *Map) Reset() {
	if len(m.pages) == 0 {
		return
	}
	page := m.pages[0]
	clear(page)
	clear(m.pages)
	m.pages, m.spare = m.pages[:0], page[:0]
}

// A cursor is a place in a map that does not change.
type cursor struct {
	m        *Map
	page, at int
	step     int // 1 for rising keys, -1 for falling ones
}

// entry returns the entry at the cursor, and false beyond the last one.
func (c *cursor) entry() (entry, bool) {
	if c.page < 0 || c.page >= len(c.m.pages) {
		return entry{}, false
	}
	if c.at >= len(c.m.pages[c.page]) { // find leaves a rising cursor there
		c.page, c.at = c.page+1, 0
		return c.entry()
	}
	return c.m.pages[c.page][c.at], true
}

// move moves the cursor to the next entry.
func (c *cursor) move() {
	if c.at += c.step; c.at < 0 {
		if c.page--; c.page >= 0 {
			c.at = len(c.m.pages[c.page]) - 1
		}
	}
}

// Ascend yields the entries from a key on.
func (m *Map) Ascend(from []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		page, at, _ := m.find(from)
		for ; page < len(m.pages); page, at = page+1, 0 {
			for _, e := range m.pages[page][at:] {
				if !yield(e.key, e.value) {
					return
				}
			}
		}
	}
}

// Descend yields the entries before a key, from the last one on; nil means all of them.
func (m *Map) Descend(before []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		page, at := len(m.pages)-1, 0
		if page >= 0 {
			at = len(m.pages[page])
		}
		if before != nil {
			page, at, _ = m.find(before)
		}
		for page = min(page, len(m.pages)-1); page >= 0; page-- {
			for _, e := range slices.Backward(m.pages[page][:at]) {
				if !yield(e.key, e.value) {
					return
				}
			}
			if page > 0 {
				at = len(m.pages[page-1])
			}
		}
	}
}
