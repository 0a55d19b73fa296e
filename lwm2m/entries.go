package lwm2m

import (
	"fmt"
	"slices"
)

// pathCollector collects decoded entries. It refuses paths outside of the request and duplicates.
type pathCollector struct {
	base    Path
	types   typeLookup
	cbor    bool // object links are text
	history bool // a path may occur more than once, at different times
	entries []Entry
	// seen is used once paths stop ascending: true for entries, false for the paths above them.
	seen map[Path]bool
}

// add returns why an entry was refused, "" if it was not.
func (c *pathCollector) add(p Path, v Value) (refused string) {
	if !c.base.Contains(p) {
		return "path is outside of the request"
	}
	if !c.history && c.duplicate(p) {
		return "path occurs twice, or below another value"
	}
	if v.typ != TypeNone && v.typ != TypeNull {
		t := c.types.typeOf(p)
		fit := Value.fit
		if c.cbor {
			fit = Value.fitCBOR
		}
		typed, ok := fit(v, t)
		if !ok {
			return "value is not of type " + t.String()
		}
		v = typed
	}
	c.entries = append(c.entries, Entry{Path: p, Value: v})
	return ""
}

// duplicate reports whether p, or a path above or below it, occurred before. While paths ascend, it
// only compares p with the last one.
func (c *pathCollector) duplicate(p Path) bool {
	if c.seen == nil {
		n := len(c.entries)
		if n == 0 {
			return false
		}
		if last := c.entries[n-1].Path; last.Compare(p) < 0 {
			return last.Contains(p)
		}
		c.seen = make(map[Path]bool)
		for _, e := range c.entries {
			c.mark(e.Path)
		}
	}
	return !c.mark(p)
}

// mark records p and the paths above it, and reports whether p was free.
func (c *pathCollector) mark(p Path) bool {
	if _, taken := c.seen[p]; taken {
		return false
	}
	for above := p.parent(); above.Len() >= 2; above = above.parent() {
		if c.seen[above] {
			return false
		}
		c.seen[above] = false
	}
	c.seen[p] = true
	return true
}

func notEncodable(p Path, why string) error {
	return fmt.Errorf("%w: %s: %s", ErrNotEncodable, p, why)
}

// commonPath returns the longest path that contains all entries, which are sorted.
func commonPath(entries []Entry) Path {
	first, last := entries[0].Path, entries[len(entries)-1].Path
	n := 0
	for n < first.Len() && n < last.Len() && first.ids[n] == last.ids[n] {
		n++
	}
	return first.Prefix(n)
}

// sortedEntries returns entries in the order of their paths, for formats that nest, and refuses
// what cannot nest: a path that occurs twice or below another, and a value above the level of
// resources.
func sortedEntries(entries []Entry) ([]Entry, error) {
	for i := 1; i < len(entries); i++ {
		if entries[i-1].Path.Compare(entries[i].Path) > 0 {
			entries = slices.Clone(entries)
			slices.SortStableFunc(entries, func(a, b Entry) int { return a.Path.Compare(b.Path) })
			break
		}
	}
	for i := range entries {
		p, none := entries[i].Path, entries[i].Value.typ == TypeNone
		switch {
		case !none && p.Len() < 3:
			return nil, notEncodable(p, "values are of resources")
		case none && !p.IsInstance() && !p.IsResource():
			return nil, notEncodable(p, "no value")
		case i > 0 && entries[i-1].Path.Contains(p):
			return nil, notEncodable(p, "twice, or below another value")
		}
	}
	return entries, nil
}
