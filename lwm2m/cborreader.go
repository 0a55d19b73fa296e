package lwm2m

import "unicode/utf8"

// The major types of CBOR (RFC 8949) and the one additional information that
// LwM2M meets beyond lengths.
const (
	cborUint   = 0
	cborNegInt = 1
	cborBytes  = 2
	cborText   = 3
	cborArray  = 4
	cborMap    = 5
	cborTag    = 6
	cborSimple = 7

	cborIndefinite = 31
	cborBreak      = 0xff
)

// cborReader reads the part of CBOR that LwM2M uses, in place, and never
// allocates for what the input merely announces.
type cborReader struct {
	format ContentFormat
	data   []byte
	pos    int
}

func (r *cborReader) fail(offset int, reason string) error {
	return &FormatError{Format: r.format, Offset: offset, Reason: reason}
}

// cborHead is the head of an item: major type, additional information and
// argument. The argument of an indefinite length is 0.
type cborHead struct {
	major, info byte
	arg         uint64
	at          int
}

func (h cborHead) indefinite() bool { return h.info == cborIndefinite }

func (r *cborReader) head() (cborHead, error) {
	h := cborHead{at: r.pos}
	if r.pos == len(r.data) {
		return h, r.fail(r.pos, "input ends early")
	}
	h.major, h.info = r.data[r.pos]>>5, r.data[r.pos]&31
	r.pos++
	switch {
	case h.info < 24:
		h.arg = uint64(h.info)
		return h, nil
	case h.info < 28:
		n := 1 << (h.info - 24)
		if len(r.data)-r.pos < n {
			return h, r.fail(len(r.data), "input ends early")
		}
		for _, b := range r.data[r.pos : r.pos+n] {
			h.arg = h.arg<<8 | uint64(b)
		}
		r.pos += n
		if h.major == cborSimple && h.info == 24 && h.arg < 32 {
			return h, r.fail(h.at, "bad simple value")
		}
		return h, nil
	case h.indefinite() && h.major >= cborBytes && h.major <= cborMap:
		return h, nil
	default:
		return h, r.fail(h.at, "bad initial byte")
	}
}

// atBreak consumes the end of an item of indefinite length, if it is next.
func (r *cborReader) atBreak() (bool, error) {
	if r.pos == len(r.data) {
		return false, r.fail(r.pos, "input ends early")
	}
	if r.data[r.pos] != cborBreak {
		return false, nil
	}
	r.pos++
	return true, nil
}

// more reports whether another element of an array or map follows, of which
// seen have been read.
func (r *cborReader) more(h cborHead, seen uint64) (bool, error) {
	if !h.indefinite() {
		return seen < h.arg, nil
	}
	end, err := r.atBreak()
	return !end, err
}

// take returns the next n bytes as a view.
func (r *cborReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.data)-r.pos) {
		return nil, r.fail(len(r.data), "input ends early")
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b, nil
}

// str reads the content of a byte or text string whose head is h.
func (r *cborReader) str(h cborHead) ([]byte, error) {
	if !h.indefinite() {
		return r.chunk(h)
	}
	var all []byte
	for {
		end, err := r.atBreak()
		if end || err != nil {
			return all, err
		}
		c, err := r.head()
		if err != nil {
			return nil, err
		}
		if c.major != h.major || c.indefinite() {
			return nil, r.fail(c.at, "bad chunk of a string")
		}
		b, err := r.chunk(c)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
}

func (r *cborReader) chunk(h cborHead) ([]byte, error) {
	b, err := r.take(h.arg)
	if err == nil && h.major == cborText && !utf8.Valid(b) {
		return nil, r.fail(h.at, "text is not UTF-8")
	}
	return b, err
}

// maxSkipDepth is how deep items that are passed over may nest.
const maxSkipDepth = 64

// skip passes over one item of any kind.
func (r *cborReader) skip(depth int) error {
	h, err := r.head()
	if err != nil {
		return err
	}
	if depth == 0 {
		return r.fail(h.at, "nested too deep")
	}
	items := h.arg
	switch h.major {
	case cborBytes, cborText:
		_, err := r.str(h)
		return err
	case cborMap:
		if items > uint64(len(r.data)) {
			return r.fail(h.at, "input ends early")
		}
		items *= 2
	case cborTag:
		items = 1
	case cborArray:
	default:
		return nil
	}
	for n := uint64(0); ; n++ {
		more, err := r.more(cborHead{info: h.info, arg: items}, n)
		if err != nil || !more {
			return err
		}
		if err := r.skip(depth - 1); err != nil {
			return err
		}
	}
}
