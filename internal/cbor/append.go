package cbor

import (
	"encoding/binary"
	"math"
)

// AppendHead appends the head of an item.
func AppendHead(dst []byte, major byte, arg uint64) []byte {
	switch {
	case arg < 24:
		return append(dst, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(dst, major|24, byte(arg))
	case arg <= math.MaxUint16:
		return append(dst, major|25, byte(arg>>8), byte(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(arg))
	default:
		return binary.BigEndian.AppendUint64(append(dst, major|27), arg)
	}
}

// AppendInt appends an integer.
func AppendInt(dst []byte, v int64) []byte {
	if v < 0 {
		return AppendHead(dst, NegInt, uint64(-1-v))
	}
	return AppendHead(dst, Uint, uint64(v))
}

// AppendText appends a text string.
func AppendText[T string | []byte](dst []byte, s T) []byte {
	if len(s) < 24 {
		return append(append(dst, Text|byte(len(s))), s...)
	}
	return append(AppendHead(dst, Text, uint64(len(s))), s...)
}

// AppendBytes appends a byte string.
func AppendBytes[T string | []byte](dst []byte, s T) []byte {
	return append(AppendHead(dst, Bytes, uint64(len(s))), s...)
}

// AppendFloat appends f in the fewest of 2, 4 or 8 bytes that hold it. Every NaN becomes the same
// one.
func AppendFloat(dst []byte, f float64) []byte {
	if f != f {
		return append(dst, half, 0x7e, 0)
	}
	f32 := float32(f)
	if float64(f32) != f {
		return binary.BigEndian.AppendUint64(append(dst, double), math.Float64bits(f))
	}
	if h, ok := toHalf(f32); ok {
		return append(dst, half, byte(h>>8), byte(h))
	}
	return binary.BigEndian.AppendUint32(append(dst, single), math.Float32bits(f32))
}

// toHalf returns f, which is no NaN, as an IEEE 754 half-precision float, and whether that is
// exact.
func toHalf(f float32) (uint16, bool) {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	exp := int(bits>>23&0xff) - 127
	fraction := bits & 0x7fffff
	switch {
	case bits<<1 == 0:
		return sign, true
	case exp == 128: // infinity
		return sign | 0x7c00, true
	case exp >= -14 && exp <= 15: // normal
		return sign | uint16(exp+15)<<10 | uint16(fraction>>13), fraction&0x1fff == 0
	case exp >= -24 && exp < -14: // subnormal: the leading one moves into the fraction
		fraction |= 0x800000
		shift := uint(-exp - 1)
		return sign | uint16(fraction>>shift), fraction&(1<<shift-1) == 0
	}
	return 0, false
}

// fromHalf returns the value of a half-precision float.
func fromHalf(h uint16) float64 {
	exp, fraction := int(h>>10&0x1f), float64(h&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(fraction, -24)
	case 31:
		f = math.Inf(1)
		if fraction != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(fraction+1024, exp-25)
	}
	if h&0x8000 != 0 {
		return -f
	}
	return f
}
