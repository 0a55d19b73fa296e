package senml

import (
	"math"
	"strconv"
	"time"
)

// Number is an exact number: a 64 bit integer, signed or unsigned, a decimal fraction, or a
// float64. The zero Number is not set. A number that fits an integer is always stored as one: 21.0
// is 21, and -0.0 is 0.
type Number struct {
	bits uint64 // int64, uint64, float64 bits, or int64 mantissa
	exp  int16  // of ten, for a decimal; not 0
	kind numberKind
}

type numberKind uint8

const (
	unset numberKind = iota
	signed
	unsigned // above MaxInt64
	float    // not integral, or beyond the integers
	decimal  // mantissa * 10**exp
)

// The range of decimal exponents: beyond it every mantissa is 0 or infinite as a float64.
const (
	minExp = -400
	maxExp = 400
)

// Int returns the number v.
func Int(v int64) Number { return Number{bits: uint64(v), kind: signed} }

// Uint returns the number v.
func Uint(v uint64) Number {
	if v <= math.MaxInt64 {
		return Number{bits: v, kind: signed}
	}
	return Number{bits: v, kind: unsigned}
}

// Float returns the number v. NaN and the infinities can be made but neither encoded nor decoded.
func Float(v float64) Number {
	if v >= -1<<63 && v < 1<<63 {
		if i := int64(v); float64(i) == v {
			return Int(i)
		}
	} else if v >= 1<<63 && v < 1<<64 {
		return Uint(uint64(v)) // all floats of that size are integral
	}
	return Number{bits: math.Float64bits(v), kind: float}
}

// Decimal returns the number mantissa * 10**exp. An exponent beyond ±400 gives a float: zero or an
// infinity.
func Decimal(mantissa int64, exp int) Number {
	if mantissa == 0 {
		return Int(0)
	}
	for exp < 0 && mantissa%10 == 0 {
		mantissa /= 10
		exp++
	}
	for exp > 0 && mantissa <= math.MaxInt64/10 && mantissa >= math.MinInt64/10 {
		mantissa *= 10
		exp--
	}
	switch {
	case exp == 0:
		return Int(mantissa)
	case exp == 1 && mantissa > 0 && mantissa <= math.MaxUint64/10:
		return Uint(uint64(mantissa) * 10)
	case exp < minExp:
		return Int(0)
	case exp > maxExp:
		return Float(math.Inf(int(mantissa >> 63)))
	}
	return Number{bits: uint64(mantissa), exp: int16(exp), kind: decimal}
}

// UnixTime returns t as seconds since 1970, exact to the nanosecond, for [Record.Time] or
// [Record.BaseTime].
func UnixTime(t time.Time) Number {
	sec, nsec := t.Unix(), int64(t.Nanosecond())
	if nsec == 0 || sec > math.MaxInt64/1_000_000_000-1 || sec < math.MinInt64/1_000_000_000+1 {
		return Int(sec)
	}
	return Decimal(sec*1e9+nsec, -9)
}

// IsSet reports whether n is a number, even 0.
func (n Number) IsSet() bool { return n.kind != unset }

// Int64 returns n as an int64, and whether it is integral and fits.
func (n Number) Int64() (int64, bool) {
	return int64(n.bits), n.kind == signed
}

// Uint64 returns n as a uint64, and whether it is integral and fits.
func (n Number) Uint64() (uint64, bool) {
	return n.bits, n.kind == unsigned || n.kind == signed && int64(n.bits) >= 0
}

// Float64 returns the float64 nearest to n; 0 if n is not set.
func (n Number) Float64() float64 {
	switch n.kind {
	case signed:
		return float64(int64(n.bits))
	case unsigned:
		return float64(n.bits)
	case float:
		return math.Float64frombits(n.bits)
	case decimal:
		return decimalToFloat(int64(n.bits), int(n.exp))
	}
	return 0
}

// powersOfTen are the powers that float64 holds exactly.
var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
	1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

func decimalToFloat(m int64, exp int) float64 {
	// One operation on two exact operands rounds once, so the result is correct.
	if m > -1<<53 && m < 1<<53 {
		if exp < 0 && -exp < len(powersOfTen) {
			return float64(m) / powersOfTen[-exp]
		}
		if exp >= 0 && exp < len(powersOfTen) {
			return float64(m) * powersOfTen[exp]
		}
	}
	var buf [32]byte
	b := strconv.AppendInt(buf[:0], m, 10)
	b = append(b, 'e')
	b = strconv.AppendInt(b, int64(exp), 10)
	f, _ := strconv.ParseFloat(string(b), 64) // an infinity is the right result too
	return f
}

// isFinite reports whether n is set, and is a number that JSON can have.
func (n Number) isFinite() bool {
	switch n.kind {
	case float, decimal:
		return !math.IsInf(n.Float64(), 0) && !math.IsNaN(n.Float64())
	}
	return n.kind != unset
}

// add returns n + m: exact for integers and decimals while 64 bits can hold the result, and as
// float64 otherwise. A number that is not set counts as 0; the sum of two of them is not set.
func (n Number) add(m Number) Number {
	switch {
	case !n.IsSet():
		return m
	case !m.IsSet():
		return n
	}
	if n.kind == signed && m.kind == signed {
		if sum := int64(n.bits) + int64(m.bits); (sum < int64(n.bits)) == (int64(m.bits) < 0) {
			return Int(sum)
		}
	}
	if sum, ok := addUnsigned(n, m); ok {
		return sum
	}
	if sum, ok := addDecimals(n, m); ok {
		return sum
	}
	return Float(n.Float64() + m.Float64())
}

// addUnsigned adds integers whose sum needs all 64 bits.
func addUnsigned(n, m Number) (Number, bool) {
	if n.kind == signed {
		n, m = m, n
	}
	a, ok := n.Uint64()
	if !ok || m.kind != signed && m.kind != unsigned {
		return Number{}, false
	}
	if b, ok := m.Uint64(); ok {
		return Uint(a + b), a+b >= a
	}
	minus := -m.bits // m is negative
	return Uint(a - minus), a >= minus
}

// addDecimals adds integers and decimals of which at least one is a decimal.
func addDecimals(n, m Number) (Number, bool) {
	if n.exp < m.exp {
		n, m = m, n
	}
	for _, k := range [...]numberKind{n.kind, m.kind} {
		if k != signed && k != decimal {
			return Number{}, false
		}
	}
	a, b := int64(n.bits), int64(m.bits)
	for range int(n.exp) - int(m.exp) {
		if a > math.MaxInt64/10 || a < math.MinInt64/10 {
			return Number{}, false
		}
		a *= 10
	}
	sum := a + b
	return Decimal(sum, int(m.exp)), (sum < a) == (b < 0)
}

// split returns n in whole seconds, rounded down, and nanoseconds. It saturates.
func (n Number) split() (sec, nsec int64) {
	switch n.kind {
	case signed:
		return int64(n.bits), 0
	case decimal:
		m, exp := int64(n.bits), int(n.exp)
		if exp > -19 && exp < 0 {
			unit := int64(1)
			for range -exp {
				unit *= 10
			}
			sec, rest := m/unit, m%unit
			if rest < 0 {
				sec, rest = sec-1, rest+unit
			}
			for ; exp > -9; exp-- {
				rest *= 10
			}
			for ; exp < -9; exp++ {
				rest /= 10
			}
			return sec, rest
		}
	}
	f := n.Float64()
	if f >= 1<<63 {
		return math.MaxInt64, 0
	}
	if f < -1<<63 || f != f {
		return math.MinInt64, 0
	}
	whole := math.Floor(f)
	return int64(whole), int64((f - whole) * 1e9)
}
