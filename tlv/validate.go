package tlv

import "io"

// Validate checks a whole body: every element at every level, and that no level
// has two elements with the same identifier (which the iterators do not check).
// It takes time in proportion to len(data), whatever data holds.
func Validate(data []byte) error { return validate(NewDecoder(data)) }

func validate(d Decoder) error {
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
		if !seen.add(e.ID) {
			return &SyntaxError{at, ErrDuplicateID}
		}
		seen.count++
		if e.Kind == ObjectInstance || e.Kind == MultipleResource {
			if err := validate(e.Decoder()); err != nil { // at most two deep
				return err
			}
		}
	}
}

// idSet finds duplicates among siblings: for nothing while identifiers ascend,
// as nearly all senders write them; by looking again at the siblings while
// those are few; else by a bit for each identifier.
type idSet struct {
	siblings Decoder // from the first sibling on
	count    int
	max      int
	bits     *[1 << 16 / 64]uint64
}

const fewSiblings = 32

func (s *idSet) add(id uint16) bool {
	if s.bits != nil {
		return s.mark(id)
	}
	if int(id) > s.max {
		s.max = int(id)
		return true
	}
	if s.count > fewSiblings {
		s.bits = new([1 << 16 / 64]uint64)
	}
	d := s.siblings
	for range s.count {
		e, err := d.Next()
		if err != nil {
			return false
		}
		if s.bits != nil {
			s.mark(e.ID)
		} else if e.ID == id {
			return false
		}
	}
	return s.bits == nil || s.mark(id)
}

func (s *idSet) mark(id uint16) bool {
	bit := uint64(1) << (id % 64)
	if s.bits[id/64]&bit != 0 {
		return false
	}
	s.bits[id/64] |= bit
	return true
}
