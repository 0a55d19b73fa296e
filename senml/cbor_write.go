package senml

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The major types of CBOR (RFC 8949, section 3.1), shifted into place.
const (
	majorUint   = 0 << 5
	majorNegInt = 1 << 5
	majorBytes  = 2 << 5
	majorText   = 3 << 5
	majorArray  = 4 << 5
	majorMap    = 5 << 5
	majorTag    = 6 << 5
	majorSimple = 7 << 5
)

const (
	cborFalse  = majorSimple | 20
	cborTrue   = majorSimple | 21
	cborNull   = majorSimple | 22
	cborHalf   = majorSimple | 25
	cborSingle = majorSimple | 26
	cborDouble = majorSimple | 27
	cborBreak  = majorSimple | 31

	tagDecimal = 4
)

const (
	keyName   = 0
	keyValue  = 2
	keyString = 3
)

// keys are the integers that CBOR has for the labels, encoded. The object link
// has none and is a text key.
var keys = [...]byte{
	labelBaseName: 0x21, labelBaseTime: 0x22, labelBaseUnit: 0x23, labelBaseValue: 0x24,
	labelBaseSum: 0x25, labelVersion: 0x20, labelName: keyName, labelUnit: 1, labelValue: keyValue,
	labelString: keyString, labelBool: 4, labelSum: 5, labelTime: 6, labelUpdateTime: 7, labelData: 8,
	labelLink: 0xff, unknownLabel: 0xff,
}

func (c Codec) appendCBOR(dst []byte, pack []Record) ([]byte, error) {
	k := checker{codec: c}
	b := appendHead(dst, majorArray, uint64(len(pack)))
	for i := range pack {
		r := &pack[i]
		if r.isPlain() && k.goodOut(r) {
			b = appendPlainCBOR(b, r)
			continue
		}
		has := r.labels()
		if err := k.checkOut(r, has); err != nil {
			return dst, &SyntaxError{Offset: -1, Record: i, Err: err}
		}
		b = appendCBORRecord(b, r, has)
	}
	if err := k.checkNames(len(b) - len(dst)); err != nil {
		return dst, &SyntaxError{Offset: -1, Record: -1, Err: err}
	}
	return b, nil
}

// appendPlainCBOR appends a record that is plain and good.
func appendPlainCBOR(b []byte, r *Record) []byte {
	if r.Name == "" {
		b = append(b, majorMap|1)
	} else {
		b = appendText(append(b, majorMap|2, keyName), r.Name)
	}
	return r.Value.appendCBOR(b)
}

func appendCBORRecord(b []byte, r *Record, has labelSet) []byte {
	b = append(b, majorMap|byte(bits.OnesCount32(uint32(has)))) // at most 12
	if has&(1<<labelName-1) != 0 {
		if has.has(labelBaseName) {
			b = appendText(append(b, keys[labelBaseName]), r.BaseName)
		}
		if has.has(labelBaseTime) {
			b = r.BaseTime.appendCBOR(append(b, keys[labelBaseTime]))
		}
		if has.has(labelBaseUnit) {
			b = appendText(append(b, keys[labelBaseUnit]), r.BaseUnit)
		}
		if has.has(labelBaseValue) {
			b = r.BaseValue.appendCBOR(append(b, keys[labelBaseValue]))
		}
		if has.has(labelBaseSum) {
			b = r.BaseSum.appendCBOR(append(b, keys[labelBaseSum]))
		}
		if has.has(labelVersion) {
			b = appendHead(append(b, keys[labelVersion]), majorUint, uint64(r.BaseVersion))
		}
	}
	if has.has(labelName) {
		b = appendText(append(b, keys[labelName]), r.Name)
	}
	if has.has(labelUnit) {
		b = appendText(append(b, keys[labelUnit]), r.Unit)
	}
	if has.has(labelTime) {
		b = r.Time.appendCBOR(append(b, keys[labelTime]))
	}
	b = r.Value.appendCBOR(b)
	if has.has(labelSum) {
		b = r.Sum.appendCBOR(append(b, keys[labelSum]))
	}
	if has.has(labelUpdateTime) {
		b = r.UpdateTime.appendCBOR(append(b, keys[labelUpdateTime]))
	}
	return b
}

// appendCBOR appends the field that v is.
func (v *Value) appendCBOR(b []byte) []byte {
	switch v.kind {
	case NumberKind:
		if v.num.kind == signed && v.num.bits < 24 {
			return append(b, keyValue, byte(v.num.bits))
		}
		return v.num.appendCBOR(append(b, keyValue))
	case StringKind:
		return appendText(append(b, keyString), v.text)
	case BoolKind:
		if v.bool {
			return append(b, keys[labelBool], cborTrue)
		}
		return append(b, keys[labelBool], cborFalse)
	case DataKind:
		b = appendHead(append(b, keys[labelData]), majorBytes, uint64(len(v.data)))
		return append(b, v.data...)
	case LinkKind:
		return appendText(appendText(b, "vlo"), v.text)
	case NullKind:
		return append(b, keys[labelValue], cborNull)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	if len(s) < 24 {
		return append(append(b, majorText|byte(len(s))), s...)
	}
	return append(appendHead(b, majorText, uint64(len(s))), s...)
}

// appendHead appends the head of an item in its shortest form.
func appendHead(b []byte, major byte, v uint64) []byte {
	switch {
	case v < 24:
		return append(b, major|byte(v))
	case v <= math.MaxUint8:
		return append(b, major|24, byte(v))
	case v <= math.MaxUint16:
		return append(b, major|25, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(v))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), v)
	}
}

func (n Number) appendCBOR(b []byte) []byte {
	switch n.kind {
	case signed:
		return appendInt(b, int64(n.bits))
	case unsigned:
		return appendHead(b, majorUint, n.bits)
	case decimal:
		// A float is what every receiver understands, and up to 15 digits it holds
		// every decimal so that it can be told from its neighbours.
		const digits15 = 1e15
		if m := int64(n.bits); m <= -digits15 || m >= digits15 || n.exp < -300 {
			b = append(b, majorTag|tagDecimal, majorArray|2)
			return appendInt(appendInt(b, int64(n.exp)), m)
		}
		return appendCBORFloat(b, n.Float64())
	default:
		return appendCBORFloat(b, math.Float64frombits(n.bits))
	}
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		return appendHead(b, majorNegInt, uint64(-1-v))
	}
	return appendHead(b, majorUint, uint64(v))
}

// appendCBORFloat appends f in the fewest of 2, 4 or 8 bytes that hold it.
func appendCBORFloat(b []byte, f float64) []byte {
	single := float32(f)
	if float64(single) != f {
		return binary.BigEndian.AppendUint64(append(b, cborDouble), math.Float64bits(f))
	}
	if half, ok := toHalf(single); ok {
		return append(b, cborHalf, byte(half>>8), byte(half))
	}
	return binary.BigEndian.AppendUint32(append(b, cborSingle), math.Float32bits(single))
}

// toHalf returns f as an IEEE 754 half-precision float, and whether that is
// exact. f is finite.
func toHalf(f float32) (uint16, bool) {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xff) - 127
	fraction := b & 0x7fffff
	switch {
	case b<<1 == 0:
		return sign, true
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
