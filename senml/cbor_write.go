package senml

import (
	"math"
	"math/bits"

	"github.com/otago-iot/otago/internal/cbor"
)

const (
	keyName   = 0
	keyValue  = 2
	keyString = 3
)

// keys are the encoded integers that CBOR has for the labels. The object link has none; its key is
// text.
var keys = [...]byte{
	labelBaseName: 0x21, labelBaseTime: 0x22, labelBaseUnit: 0x23, labelBaseValue: 0x24,
	labelBaseSum: 0x25, labelVersion: 0x20, labelName: keyName, labelUnit: 1, labelValue: keyValue,
	labelString: keyString, labelBool: 4, labelSum: 5, labelTime: 6, labelUpdateTime: 7, labelData: 8,
	labelLink: 0xff, unknownLabel: 0xff,
}

// AppendCBOR appends pack in CBOR (application/senml+cbor) to dst, with definite lengths, and each
// number in the shortest form that keeps its value. It fails as AppendJSON does.
func (c Codec) AppendCBOR(dst []byte, pack []Record) ([]byte, error) {
	k := checker{codec: c}
	b := cbor.AppendHead(dst, cbor.Array, uint64(len(pack)))
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

// appendPlainCBOR appends a record that is plain and valid.
func appendPlainCBOR(b []byte, r *Record) []byte {
	if r.Name == "" {
		b = append(b, cbor.Map|1)
	} else {
		b = cbor.AppendText(append(b, cbor.Map|2, keyName), r.Name)
	}
	return r.Value.appendCBOR(b)
}

func appendCBORRecord(b []byte, r *Record, has labelSet) []byte {
	b = append(b, cbor.Map|byte(bits.OnesCount32(uint32(has)))) // at most 12
	if has&(1<<labelName-1) != 0 {
		if has.has(labelBaseName) {
			b = cbor.AppendText(append(b, keys[labelBaseName]), r.BaseName)
		}
		if has.has(labelBaseTime) {
			b = r.BaseTime.appendCBOR(append(b, keys[labelBaseTime]))
		}
		if has.has(labelBaseUnit) {
			b = cbor.AppendText(append(b, keys[labelBaseUnit]), r.BaseUnit)
		}
		if has.has(labelBaseValue) {
			b = r.BaseValue.appendCBOR(append(b, keys[labelBaseValue]))
		}
		if has.has(labelBaseSum) {
			b = r.BaseSum.appendCBOR(append(b, keys[labelBaseSum]))
		}
		if has.has(labelVersion) {
			b = cbor.AppendHead(append(b, keys[labelVersion]), cbor.Uint, uint64(r.BaseVersion))
		}
	}
	if has.has(labelName) {
		b = cbor.AppendText(append(b, keys[labelName]), r.Name)
	}
	if has.has(labelUnit) {
		b = cbor.AppendText(append(b, keys[labelUnit]), r.Unit)
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

// appendCBOR appends the value as a field.
func (v *Value) appendCBOR(b []byte) []byte {
	switch v.kind {
	case NumberKind:
		if v.num.kind == signed && v.num.bits < 24 {
			return append(b, keyValue, byte(v.num.bits))
		}
		return v.num.appendCBOR(append(b, keyValue))
	case StringKind:
		return cbor.AppendText(append(b, keyString), v.text)
	case BoolKind:
		if v.bool {
			return append(b, keys[labelBool], cbor.True)
		}
		return append(b, keys[labelBool], cbor.False)
	case DataKind:
		return cbor.AppendBytes(append(b, keys[labelData]), v.data)
	case LinkKind:
		return cbor.AppendText(cbor.AppendText(b, "vlo"), v.text)
	case NullKind:
		return append(b, keys[labelValue], cbor.Null)
	}
	return b
}

func (n Number) appendCBOR(b []byte) []byte {
	switch n.kind {
	case signed:
		return cbor.AppendInt(b, int64(n.bits))
	case unsigned:
		return cbor.AppendHead(b, cbor.Uint, n.bits)
	case decimal:
		// Every receiver understands a float, and a float can hold any decimal of up to 15 digits
		// so that it differs from its neighbours.
		const digits15 = 1e15
		if m := int64(n.bits); m <= -digits15 || m >= digits15 || n.exp < -300 {
			b = append(b, cbor.Tag|cbor.TagDecimal, cbor.Array|2)
			return cbor.AppendInt(cbor.AppendInt(b, int64(n.exp)), m)
		}
		return cbor.AppendFloat(b, n.Float64())
	default:
		return cbor.AppendFloat(b, math.Float64frombits(n.bits))
	}
}
