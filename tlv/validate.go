package tlv

import "io"

// Validate checks a whole body: every element at every level, and that no level has two elements
// with the same identifier, which [All] does not check. The error is a [*SyntaxError]. Validate
// takes time in proportion to the length of data. It allocates nothing if the identifiers are in an
// order that real devices send, and at most 24 KiB otherwise.
func Validate(data []byte) error {
	var tables [3]*idTable
	return validate(newDecoder(data), &tables, 0)
}

// validate checks one level: 0 is the outermost.
func validate(d decoder, tables *[3]*idTable, level int) error {
	seen := idSet{siblings: d, max: -1}
	for {
		at := int(d.offset)
		e, err := d.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !seen.add(e.ID, &tables[level]) {
			return &SyntaxError{at, ErrDuplicateID}
		}
		seen.count++
		if !isValue(e.Kind) {
			if err := validate(e.decoder(), tables, level+1); err != nil {
				return err
			}
		}
	}
}

// idSet finds duplicates among siblings. While identifiers ascend, as nearly all senders write
// them, it does nothing. Otherwise it compares with all siblings while they are few, and then uses
// a bit for each identifier.
type idSet struct {
	siblings decoder // from the first on
	count    int
	max      int
	table    *idTable // once marking began
}

type idTable [1 << 16 / 64]uint64

const fewSiblings = 32

// add reports whether id is new. It makes the spare table if it needs one and there is none.
func (s *idSet) add(id uint16, spare **idTable) bool {
	if s.table != nil {
		return s.table.mark(id)
	}
	if int(id) > s.max {
		s.max = int(id)
		return true
	}
	if s.count > fewSiblings {
		if *spare == nil {
			*spare = new(idTable)
		}
		s.startMarking(*spare)
		return s.table.mark(id)
	}
	d := s.siblings
	for range s.count {
		if e, err := d.Next(); err != nil || e.ID == id {
			return false
		}
	}
	return true
}

// startMarking marks the siblings so far in t.
func (s *idSet) startMarking(t *idTable) {
	clear(t[:])
	s.table = t
	d := s.siblings
	for range s.count {
		if e, err := d.Next(); err == nil {
			t.mark(e.ID)
		}
	}
}

// mark reports whether id was not marked before.
func (t *idTable) mark(id uint16) bool {
	bit := uint64(1) << (id % 64)
	if t[id/64]&bit != 0 {
		return false
	}
	t[id/64] |= bit
	return true
}
