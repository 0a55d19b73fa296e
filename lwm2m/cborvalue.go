package lwm2m

import (
	"math"
	"strconv"
	"time"
)

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
