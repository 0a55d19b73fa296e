package lwm2m

import "slices"

// LwM2M CBOR (Content-Format 11544; Core specification 1.2, LwM2M CBOR): one
// map whose keys are identifiers, or arrays of identifiers for several levels
// at once, and whose values are maps of the levels below or values.

func decodeLwM2MCBOR(base Path, payload []byte, m *Models) ([]Entry, error) {
	d := lwm2mCBORDecoder{
		r: cborReader{format: FormatLwM2MCBOR, data: payload},
		c: pathCollector{
			base: base, types: typeLookup{models: m}, cbor: true,
			entries: make([]Entry, 0, min(len(payload)/4+1, 16)),
		},
	}
	h, err := d.r.head()
	if err != nil {
		return nil, err
	}
	if h.major != cborMap {
		return nil, d.r.fail(h.at, "not a map")
	}
	if err := d.level(Path{}, h); err != nil {
		return nil, err
	}
	if d.r.pos != len(payload) {
		return nil, d.r.fail(d.r.pos, "data after the end")
	}
	return d.c.entries, nil
}

type lwm2mCBORDecoder struct {
	r cborReader
	c pathCollector
}

// level reads a map, whose head is h, of what is below p. It recurses at most
// four times, as every key takes at least one level.
func (d *lwm2mCBORDecoder) level(p Path, h cborHead) error {
	for n := uint64(0); ; n++ {
		more, err := d.r.more(h, n)
		if err != nil {
			return err
		}
		if !more {
			if n == 0 {
				return d.empty(p, h)
			}
			return nil
		}
		if err := d.member(p); err != nil {
			return err
		}
	}
}

// empty is a map without members: an instance or a multiple resource that
// holds nothing. At and above the request's own path that goes without saying.
func (d *lwm2mCBORDecoder) empty(p Path, h cborHead) error {
	if p.Len() <= d.c.base.Len() && p.Contains(d.c.base) {
		return nil
	}
	if p.IsObject() || p.IsResourceInstance() {
		return d.r.fail(h.at, "empty map")
	}
	return d.add(p, Value{}, h.at)
}

// add takes an entry, which begins at the offset at.
func (d *lwm2mCBORDecoder) add(p Path, v Value, at int) error {
	if n := len(d.c.entries); n == cap(d.c.entries) {
		// Room for as many as will come if they are like those before.
		more := int(int64(len(d.r.data)-d.r.pos) * int64(n) / int64(d.r.pos))
		d.c.entries = slices.Grow(d.c.entries, more+more/4+1)
	}
	if refused := d.c.add(p, v); refused != "" {
		return d.r.fail(at, refused)
	}
	return nil
}

func (d *lwm2mCBORDecoder) member(p Path) error {
	at := d.r.pos
	p, err := d.key(p)
	if err != nil {
		return err
	}
	h, err := d.r.head()
	if err != nil {
		return err
	}
	if h.major == cborMap {
		if p.Len() == MaxPathLen {
			return d.r.fail(h.at, "path of more than four levels")
		}
		return d.level(p, h)
	}
	if p.Len() < 3 {
		return d.r.fail(h.at, "value above the level of resources")
	}
	v, err := d.r.value(h)
	if err != nil {
		return err
	}
	return d.add(p, v, at)
}

// key reads a key, one identifier or an array of some, and extends p by it.
func (d *lwm2mCBORDecoder) key(p Path) (Path, error) {
	h, err := d.r.head()
	if err != nil {
		return p, err
	}
	if h.major != cborArray {
		return d.identifier(p, h)
	}
	for n := uint64(0); ; n++ {
		more, err := d.r.more(h, n)
		if err != nil {
			return p, err
		}
		if !more {
			if n == 0 {
				return p, d.r.fail(h.at, "empty array as key")
			}
			return p, nil
		}
		id, err := d.r.head()
		if err != nil {
			return p, err
		}
		if p, err = d.identifier(p, id); err != nil {
			return p, err
		}
	}
}

func (d *lwm2mCBORDecoder) identifier(p Path, h cborHead) (Path, error) {
	switch {
	case h.major != cborUint:
		return p, d.r.fail(h.at, "identifier is not an unsigned integer")
	case h.arg >= uint64(NoID):
		return p, d.r.fail(h.at, "identifier out of range")
	case p.Len() == MaxPathLen:
		return p, d.r.fail(h.at, "path of more than four levels")
	default:
		return p.child(uint16(h.arg)), nil
	}
}

// appendLwM2MCBOR writes one map that holds the common path of all entries as
// its key, and below it one map a level.
func appendLwM2MCBOR(dst []byte, entries []Entry) ([]byte, error) {
	if len(entries) == 0 {
		return appendCBORHead(dst, cborMap, 0), nil
	}
	entries, err := sortedEntries(entries)
	if err != nil {
		return dst, err
	}
	common := commonPath(entries)
	if common.Len() == 0 {
		return appendCBORLevel(dst, entries, 0), nil
	}
	dst = appendCBORHead(dst, cborMap, 1)
	dst = appendCBORPath(dst, common)
	return appendCBORBelow(dst, entries, common.Len()), nil
}

func appendCBORPath(dst []byte, p Path) []byte {
	if p.Len() > 1 {
		dst = appendCBORHead(dst, cborArray, uint64(p.Len()))
	}
	for _, id := range p.ids[:p.n] {
		dst = appendCBORHead(dst, cborUint, uint64(id))
	}
	return dst
}

// appendCBORBelow writes what entries, which agree in the first level
// identifiers, have there: a value or a map.
func appendCBORBelow(dst []byte, entries []Entry, level int) []byte {
	e := &entries[0]
	if len(entries) > 1 || e.Path.Len() > level {
		return appendCBORLevel(dst, entries, level)
	}
	if e.Value.typ == TypeNone {
		return appendCBORHead(dst, cborMap, 0)
	}
	return appendCBORValue(dst, e.Value)
}

func appendCBORLevel(dst []byte, entries []Entry, level int) []byte {
	n := uint64(0)
	for rest := entries; len(rest) > 0; rest = rest[run(rest, level):] {
		n++
	}
	dst = appendCBORHead(dst, cborMap, n)
	for len(entries) > 0 {
		n := run(entries, level)
		dst = appendCBORHead(dst, cborUint, uint64(entries[0].Path.ids[level]))
		dst = appendCBORBelow(dst, entries[:n], level+1)
		entries = entries[n:]
	}
	return dst
}

// run returns how many entries at the start have the same identifier at level.
func run(entries []Entry, level int) int {
	n := 1
	for n < len(entries) && entries[n].Path.ids[level] == entries[0].Path.ids[level] {
		n++
	}
	return n
}
