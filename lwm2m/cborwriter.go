package lwm2m

import (
	"encoding/binary"
	"math"
)

// floatToHalf returns the half-precision bits of f if that is exact.
func floatToHalf(f float32) (uint16, bool) {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	exp, frac := int(bits>>23&0xff)-127, bits&0x7fffff
	switch {
	case exp == 128: // infinity; not-a-number is made one elsewhere
		return sign | 0x7c00, frac == 0
	case exp == -127: // zero; single-precision subnormals are too small
		return sign, frac == 0
	case exp >= -14 && exp <= 15:
		return sign | uint16(exp+15)<<10 | uint16(frac>>13), frac&0x1fff == 0
	case exp >= -24 && exp < -14: // half-precision subnormals
		shift := uint(-exp - 14 + 13)
		full := frac | 0x800000
		return sign | uint16(full>>shift), full&(1<<shift-1) == 0
	default:
		return 0, false
	}
}

func appendCBORHead(dst []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < 24:
		return append(dst, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(dst, major|24, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|25), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|26), uint32(arg))
	default:
		return binary.BigEndian.AppendUint64(append(dst, major|27), arg)
	}
}

// appendCBORValue appends v in the shortest form; the caller has excluded
// TypeNone.
func appendCBORValue(dst []byte, v Value) []byte {
	switch v.typ {
	case TypeInteger, TypeTime:
		if i := int64(v.num); i < 0 {
			return appendCBORHead(dst, cborNegInt, uint64(-1-i))
		}
		return appendCBORHead(dst, cborUint, v.num)
	case TypeUnsigned:
		return appendCBORHead(dst, cborUint, v.num)
	case TypeFloat:
		return appendCBORFloat(dst, math.Float64frombits(v.num))
	case TypeBoolean:
		return append(dst, 0xf4|byte(v.num))
	case TypeOpaque:
		return append(appendCBORHead(dst, cborBytes, uint64(len(v.str))), v.str...)
	case TypeObjectLink:
		var buf [11]byte
		link := appendObjectLink(buf[:0], v)
		return append(appendCBORHead(dst, cborText, uint64(len(link))), link...)
	case TypeNull:
		return append(dst, 0xf6)
	default:
		return append(appendCBORHead(dst, cborText, uint64(len(v.str))), v.str...)
	}
}

// appendCBORFloat appends f in the shortest form that is exact; every
// not-a-number is the same one.
func appendCBORFloat(dst []byte, f float64) []byte {
	if f != f {
		return append(dst, 0xf9, 0x7e, 0)
	}
	single := float32(f)
	if float64(single) != f {
		return binary.BigEndian.AppendUint64(append(dst, 0xfb), math.Float64bits(f))
	}
	if half, ok := floatToHalf(single); ok {
		return binary.BigEndian.AppendUint16(append(dst, 0xf9), half)
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xfa), math.Float32bits(single))
}
