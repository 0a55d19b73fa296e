package lwm2m

import (
	"slices"

	"github.com/otago-iot/otago/internal/cbor"
)

// LwM2M CBOR (Content-Format 11544; Core specification 1.2, LwM2M CBOR): one map whose keys are
// identifiers, or arrays of identifiers for several levels at once, and whose values are maps of
// the levels below or values.

func decodeLwM2MCBOR(base Path, payload []byte, m modelView) ([]Entry, error) {
	d := lwm2mCBORDecoder{
		cborReader: newCBORReader(FormatLwM2MCBOR, payload),
		c: pathCollector{
			base: base, types: typeLookup{view: m}, cbor: true,
			entries: make([]Entry, 0, min(len(payload)/4+1, 16)),
		},
	}
	h, err := d.head()
	if err != nil {
		return nil, err
	}
	if h.Major != cbor.Map {
		return nil, d.fail(h.At, "not a map")
	}
	if err := d.level(Path{}, h); err != nil {
		return nil, err
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return d.c.entries, nil
}

type lwm2mCBORDecoder struct {
	cborReader
	c pathCollector
}

// level reads a map of what is below p, whose head is h. It recurses at most four times, as every
// key takes at least one level.
func (d *lwm2mCBORDecoder) level(p Path, h cbor.Head) error {
	n := uint64(0)
	for ; d.More(h, n); n++ {
		if err := d.member(p); err != nil {
			return err
		}
	}
	if n == 0 {
		return d.empty(p, h)
	}
	return nil
}

// empty handles a map without members: an empty instance or multiple resource. At and above the
// path of the request it means nothing.
func (d *lwm2mCBORDecoder) empty(p Path, h cbor.Head) error {
	if p.Len() <= d.c.base.Len() && p.Contains(d.c.base) {
		return nil
	}
	if p.IsObject() || p.IsResourceInstance() {
		return d.fail(h.At, "empty map")
	}
	return d.add(p, Value{}, h.At)
}

// add adds an entry that begins at the offset at.
func (d *lwm2mCBORDecoder) add(p Path, v Value, at int) error {
	if n := len(d.c.entries); n == cap(d.c.entries) {
		// Make room for the rest of the payload, assuming entries as long as those so far.
		more := int(int64(len(d.S)-d.Pos) * int64(n) / int64(d.Pos))
		d.c.entries = slices.Grow(d.c.entries, more+more/4+1)
	}
	if refused := d.c.add(p, v); refused != "" {
		return d.fail(at, refused)
	}
	return nil
}

func (d *lwm2mCBORDecoder) member(p Path) error {
	at := d.Pos
	p, err := d.key(p)
	if err != nil {
		return err
	}
	h, err := d.head()
	if err != nil {
		return err
	}
	if h.Major == cbor.Map {
		if p.Len() == MaxPathLen {
			return d.fail(h.At, "path of more than four levels")
		}
		return d.level(p, h)
	}
	if p.Len() < 3 {
		return d.fail(h.At, "value above the level of resources")
	}
	v, err := d.value(h)
	if err != nil {
		return err
	}
	return d.add(p, v, at)
}

// key reads a key, an identifier or an array of identifiers, and extends p by it.
func (d *lwm2mCBORDecoder) key(p Path) (Path, error) {
	h, err := d.head()
	if err != nil {
		return p, err
	}
	if h.Major != cbor.Array {
		return d.identifier(p, h)
	}
	below, err := d.identifiers(p, h)
	if err == nil && below == p {
		err = d.fail(h.At, "empty array as key")
	}
	return below, err
}

// identifiers reads an array of identifiers, whose head is h, and extends p by them.
func (d *lwm2mCBORDecoder) identifiers(p Path, h cbor.Head) (Path, error) {
	for n := uint64(0); d.More(h, n); n++ {
		id, err := d.head()
		if err != nil {
			return p, err
		}
		if p, err = d.identifier(p, id); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (d *lwm2mCBORDecoder) identifier(p Path, h cbor.Head) (Path, error) {
	switch {
	case h.Major != cbor.Uint:
		return p, d.fail(h.At, "identifier is not an unsigned integer")
	case h.Arg >= uint64(NoID):
		return p, d.fail(h.At, "identifier out of range")
	case p.Len() == MaxPathLen:
		return p, d.fail(h.At, "path of more than four levels")
	default:
		return p.child(uint16(h.Arg)), nil
	}
}

// decodeCBORPaths reads the body of a composite request: an array of paths, each an array of
// identifiers, [[5,0,3],[3,0,3]]. An empty array is the root.
func decodeCBORPaths(payload []byte) ([]Path, error) {
	d := lwm2mCBORDecoder{cborReader: newCBORReader(FormatLwM2MCBOR, payload)}
	all, err := d.head()
	if err != nil {
		return nil, err
	}
	if all.Major != cbor.Array {
		return nil, d.fail(all.At, "not an array of paths")
	}
	var paths []Path
	for n := uint64(0); d.More(all, n); n++ {
		h, err := d.head()
		if err != nil {
			return nil, err
		}
		if h.Major != cbor.Array {
			return nil, d.fail(h.At, "path is not an array")
		}
		p, err := d.identifiers(Path{}, h)
		if err != nil {
			return nil, err
		}
		paths = append(paths, p)
	}
	if err := d.end(); err != nil {
		return nil, err
	}
	return paths, nil
}

// appendLwM2MCBOR writes one map whose key is the common path of all entries, and below it one map
// for each level.
func appendLwM2MCBOR(dst []byte, entries []Entry) ([]byte, error) {
	if len(entries) == 0 {
		return cbor.AppendHead(dst, cbor.Map, 0), nil
	}
	entries, err := sortedEntries(entries)
	if err != nil {
		return dst, err
	}
	common := commonPath(entries)
	if common.Len() == 0 {
		return appendCBORLevel(dst, entries, 0), nil
	}
	dst = cbor.AppendHead(dst, cbor.Map, 1)
	if common.Len() == 1 {
		dst = cbor.AppendHead(dst, cbor.Uint, uint64(common.ids[0]))
	} else {
		dst = appendCBORPath(dst, common)
	}
	return appendCBORBelow(dst, entries, common.Len()), nil
}

func appendCBORPaths(dst []byte, paths []Path) []byte {
	dst = cbor.AppendHead(dst, cbor.Array, uint64(len(paths)))
	for _, p := range paths {
		dst = appendCBORPath(dst, p)
	}
	return dst
}

func appendCBORPath(dst []byte, p Path) []byte {
	dst = cbor.AppendHead(dst, cbor.Array, uint64(p.Len()))
	for _, id := range p.ids[:p.n] {
		dst = cbor.AppendHead(dst, cbor.Uint, uint64(id))
	}
	return dst
}

// appendCBORBelow writes the value or the map below the first level identifiers, which all entries
// share. Of several entries none is above another, so all have more levels.
func appendCBORBelow(dst []byte, entries []Entry, level int) []byte {
	e := &entries[0]
	if e.Path.Len() > level {
		return appendCBORLevel(dst, entries, level)
	}
	if e.Value.typ == TypeNone {
		return cbor.AppendHead(dst, cbor.Map, 0)
	}
	return appendCBORValue(dst, e.Value)
}

func appendCBORLevel(dst []byte, entries []Entry, level int) []byte {
	n := uint64(0)
	for rest := entries; len(rest) > 0; rest = rest[run(rest, level):] {
		n++
	}
	dst = cbor.AppendHead(dst, cbor.Map, n)
	for len(entries) > 0 {
		n := run(entries, level)
		dst = cbor.AppendHead(dst, cbor.Uint, uint64(entries[0].Path.ids[level]))
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
