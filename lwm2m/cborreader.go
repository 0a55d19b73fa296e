package lwm2m

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

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

// value reads a value whose head is h.
func (r *cborReader) value(h cborHead) (Value, error) {
	switch h.major {
	case cborUint:
		if h.arg > math.MaxInt64 {
			return Unsigned(h.arg), nil
		}
		return Integer(int64(h.arg)), nil
	case cborNegInt:
		if h.arg > math.MaxInt64 {
			return Value{}, r.fail(h.at, "integer out of range")
		}
		return Integer(-1 - int64(h.arg)), nil
	case cborBytes:
		b, err := r.str(h)
		return Opaque(b), err
	case cborText:
		b, err := r.str(h)
		return String(string(b)), err
	case cborTag:
		return r.tagged(h)
	case cborSimple:
		return r.simple(h)
	default:
		return Value{}, r.fail(h.at, "not a value")
	}
}

func (r *cborReader) simple(h cborHead) (Value, error) {
	switch h.info {
	case 20, 21:
		return Boolean(h.info == 21), nil
	case 22:
		return Null(), nil
	case 25:
		return Float(halfToFloat(uint16(h.arg))), nil
	case 26:
		return Float(float64(math.Float32frombits(uint32(h.arg)))), nil
	case 27:
		return Float(math.Float64frombits(h.arg)), nil
	default:
		return Value{}, r.fail(h.at, "not a value")
	}
}

// The tags that values may have.
const (
	tagDateTime = 0
	tagEpoch    = 1
	tagDecimal  = 4
)

func (r *cborReader) tagged(tag cborHead) (Value, error) {
	h, err := r.head()
	if err != nil {
		return Value{}, err
	}
	switch tag.arg {
	case tagDateTime:
		if h.major != cborText {
			return Value{}, r.fail(h.at, "bad date")
		}
		b, err := r.str(h)
		if err != nil {
			return Value{}, err
		}
		t, perr := time.Parse(time.RFC3339, string(b))
		if perr != nil {
			return Value{}, r.fail(h.at, "bad date")
		}
		return Time(t), nil
	case tagEpoch:
		if h.major > cborNegInt && h.major != cborSimple {
			return Value{}, r.fail(h.at, "bad time")
		}
		v, err := r.value(h)
		if err != nil {
			return Value{}, err
		}
		sec, ok := v.Int64()
		if !ok {
			return Value{}, r.fail(h.at, "bad time")
		}
		return Value{typ: TypeTime, num: uint64(sec)}, nil
	case tagDecimal:
		return r.decimal(h)
	default:
		return Value{}, r.fail(tag.at, "unknown tag")
	}
}

// decimal reads a decimal fraction, [exponent, mantissa] (RFC 8949, 3.4.4).
func (r *cborReader) decimal(h cborHead) (Value, error) {
	if h.major != cborArray || !h.indefinite() && h.arg != 2 {
		return Value{}, r.fail(h.at, "bad decimal fraction")
	}
	var parts [2]int64
	for i := range parts {
		p, err := r.head()
		if err != nil {
			return Value{}, err
		}
		if p.major > cborNegInt || p.arg > math.MaxInt64 {
			return Value{}, r.fail(p.at, "bad decimal fraction")
		}
		if parts[i] = int64(p.arg); p.major == cborNegInt {
			parts[i] = -1 - parts[i]
		}
	}
	if h.indefinite() {
		if end, err := r.atBreak(); err != nil || !end {
			return Value{}, r.fail(r.pos, "bad decimal fraction")
		}
	}
	v, ok := decimalValue(parts[0], parts[1])
	if !ok {
		return Value{}, r.fail(h.at, "number out of range")
	}
	return v, nil
}

// decimalValue returns mantissa * 10^exponent, as an Integer if it is one in
// range, else as the nearest Float.
func decimalValue(exponent, mantissa int64) (Value, bool) {
	whole, e := mantissa, exponent
	for ; e > 0 && whole <= math.MaxInt64/10 && whole >= math.MinInt64/10 && whole != 0; e-- {
		whole *= 10
	}
	for ; e < 0 && whole%10 == 0 && whole != 0; e++ {
		whole /= 10
	}
	if e == 0 || whole == 0 {
		return Integer(whole), true
	}
	var buf [48]byte
	text := strconv.AppendInt(buf[:0], mantissa, 10)
	text = append(text, 'e')
	text = strconv.AppendInt(text, exponent, 10)
	f, err := strconv.ParseFloat(string(text), 64)
	return Float(f), err == nil
}

func halfToFloat(h uint16) float64 {
	sign, exp, frac := h>>15, h>>10&0x1f, h&0x3ff
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(float64(frac), -24)
	case 31:
		if f = math.Inf(1); frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(float64(frac|0x400), int(exp)-25)
	}
	if sign != 0 {
		f = -f
	}
	return f
}
