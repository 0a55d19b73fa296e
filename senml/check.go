package senml

import "math/bits"

// checker applies the rules of a pack, record by record: to decoded records and
// to those that are to be encoded or resolved.
type checker struct {
	codec     Codec
	base      nameState // after the base name in effect
	records   int
	version   int
	baseValue bool // a base value or sum is in effect
}

// check checks the record r, which has the given fields.
func (k *checker) check(r *Record, has labelSet) error {
	if r.Name == "" {
		has &^= 1 << labelName
	}
	if has == 0 {
		return ErrValue
	}
	if err := k.checkVersion(r, has); err != nil {
		return err
	}
	if has.has(labelBaseName) {
		k.base = k.codec.scanName(nameState{}, r.BaseName)
	}
	k.records++
	if k.codec.Pack == Fetch {
		return k.checkFetch(r, has)
	}
	values := has & valueLabels
	if bits.OnesCount32(uint32(values)) > 1 || r.Value.kind == NullKind && k.codec.Pack != Patch ||
		r.Value.kind == LinkKind && !k.codec.LwM2M {
		return ErrValue
	}
	if has.has(labelBaseValue) || has.has(labelBaseSum) && !k.codec.LwM2M {
		k.baseValue = true
	}
	if has&regularLabels == 0 {
		return nil // base fields only
	}
	if values == 0 && !k.baseValue && (k.codec.LwM2M || !has.has(labelSum)) {
		return ErrValue
	}
	return k.checkName(r.Name)
}

func (k *checker) checkFetch(r *Record, has labelSet) error {
	if k.codec.LwM2M && has&^pathLabels != 0 {
		return ErrValue
	}
	if !has.has(labelName) && !has.has(labelBaseName) {
		return ErrName
	}
	if has&^fetchLabels != 0 { // RFC 8790, section 3.1: MUST be ignored
		r.Value, r.Sum, r.UpdateTime = Value{}, Number{}, Number{}
		r.BaseValue, r.BaseSum, r.BaseVersion = Number{}, Number{}, 0
	}
	return k.checkName(r.Name)
}

func (k *checker) checkName(name string) error {
	end := k.base
	if name != "" {
		end = k.codec.scanName(end, name)
	}
	if !k.codec.goodName(end) {
		return ErrName
	}
	return nil
}

// checkVersion: all records of a pack have the same version, which is MaxVersion
// unless the first says otherwise.
func (k *checker) checkVersion(r *Record, has labelSet) error {
	if k.records == 0 {
		k.version = MaxVersion
		if has.has(labelVersion) {
			k.version = r.BaseVersion
		}
	}
	if has.has(labelVersion) && (r.BaseVersion < 1 || r.BaseVersion > MaxVersion || r.BaseVersion != k.version) {
		return ErrVersion
	}
	return nil
}

// checkNumbers refuses numbers that a pack cannot hold, and checkText strings.
// Decoders have no need of either.
func (r *Record) checkNumbers(has labelSet) error {
	for _, n := range [...]struct {
		label  label
		number *Number
	}{
		{labelBaseTime, &r.BaseTime}, {labelBaseValue, &r.BaseValue}, {labelBaseSum, &r.BaseSum},
		{labelTime, &r.Time}, {labelSum, &r.Sum}, {labelUpdateTime, &r.UpdateTime},
	} {
		if has.has(n.label) && !n.number.isFinite() {
			return ErrNumber
		}
	}
	if r.Value.kind == NumberKind && !r.Value.num.isFinite() {
		return ErrNumber
	}
	return nil
}
