package memory

import (
	"iter"
	"slices"
	"sort"
)

// maxPage is the largest number of entries in a page. An insertion moves a page and, rarely, the
// list of pages.
const maxPage = 256

// A table is an ordered map: pages of sorted entries, none of them empty, in order.
type table struct{ pages [][]entry }

type entry struct {
	key   string
	value []byte
}

// page returns the index of the page for key; 0 if there is no page.
func (t *table) page(key string) int {
	n := sort.Search(len(t.pages), func(i int) bool { return t.pages[i][0].key > key })
	return max(n-1, 0)
}

// find returns the place of the first entry from key on, which may be the end of a page.
func (t *table) find(key string) (page, at int, ok bool) {
	page = t.page(key)
	if page == len(t.pages) {
		return page, 0, false
	}
	at, ok = slices.BinarySearchFunc(t.pages[page], key, compare)
	return page, at, ok
}

func compare(e entry, key string) int {
	switch {
	case e.key < key:
		return -1
	case e.key > key:
		return 1
	}
	return 0
}

func (t *table) get(key string) []byte {
	page, at, ok := t.find(key)
	if !ok {
		return nil
	}
	return t.pages[page][at].value
}

func (t *table) put(key string, value []byte) {
	page, at, ok := t.find(key)
	switch {
	case ok:
		t.pages[page][at].value = value
		return
	case page == len(t.pages):
		t.pages = append(t.pages, nil)
	}
	entries := slices.Insert(t.pages[page], at, entry{key, value})
	t.pages[page] = entries
	if len(entries) <= maxPage {
		return
	}
	// Keys that come in order fill their pages: only the newest entry moves to the next page.
	half := len(entries) / 2
	if at == len(entries)-1 {
		half = at
	}
	second := slices.Clone(entries[half:])
	t.pages[page] = slices.Delete(entries, half, len(entries))
	t.pages = slices.Insert(t.pages, page+1, second)
}

func (t *table) delete(key string) {
	page, at, ok := t.find(key)
	if !ok {
		return
	}
	t.pages[page] = slices.Delete(t.pages[page], at, at+1)
	if len(t.pages[page]) == 0 {
		t.pages = slices.Delete(t.pages, page, page+1)
	}
}

func (t *table) ascend(from string) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		page, at, _ := t.find(from)
		for ; page < len(t.pages); page, at = page+1, 0 {
			for _, e := range t.pages[page][at:] {
				if !yield([]byte(e.key), e.value) {
					return
				}
			}
		}
	}
}

// descend yields the entries before a key; nil means all of them.
func (t *table) descend(before []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		page, at := len(t.pages)-1, 0
		if page >= 0 {
			at = len(t.pages[page])
		}
		if before != nil {
			page, at, _ = t.find(string(before))
		}
		for page = min(page, len(t.pages)-1); page >= 0; page-- {
			for _, e := range slices.Backward(t.pages[page][:at]) {
				if !yield([]byte(e.key), e.value) {
					return
				}
			}
			if page > 0 {
				at = len(t.pages[page-1])
			}
		}
	}
}
