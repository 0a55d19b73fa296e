package senml

import (
	"math/bits"
	"unicode/utf8"
)

// checker applies the rules of a pack, record by record: to decoded records, and to records before
// they are encoded or resolved.
type checker struct {
	codec     Codec
	base      nameState // state after the base name in effect
	records   int
	version   int
	baseValue bool // a base value or sum is in effect
	names     int  // bytes of all names so far, after joining
}

// maxNames is how many bytes the names of a pack may take, after joining, for each byte of the
// pack. Without a limit, a long base name before many short names would make the memory for Resolve
// grow with the square of the input. A record has at least 6 bytes, so base names of up to 192
// bytes are never refused.
const maxNames = 32

// checkNames checks a whole pack that takes size bytes.
func (k *checker) checkNames(size int) error {
	if k.names > maxNames*size {
		return ErrTooLarge
	}
	return nil
}

// plainLabels are the labels that nearly every record but the first has; see isPlain.
const plainLabels labelSet = 1<<labelName | 1<<labelValue | 1<<labelString | 1<<labelBool | 1<<labelData

// check checks the record r, which has the given fields, for a decoder or Resolve.
func (k *checker) check(r *Record, has labelSet) error {
	value := has &^ (1 << labelName)
	if has&^plainLabels == 0 && value&(value-1) == 0 && value != 0 && r.Value.kind != NullKind && k.goodPlain(r.Name) {
		return nil // checkAny would return the same
	}
	err := k.checkAny(r, has)
	if k.codec.Pack == Fetch && has&^fetchLabels != 0 {
		r.dropIgnored()
	}
	return err
}

// goodPlain reports whether a record with this name and nothing but a value is valid. If it returns
// false, checkAny decides.
func (k *checker) goodPlain(name string) bool {
	if k.records == 0 || k.codec.Pack == Fetch {
		return false
	}
	if !k.codec.LwM2M {
		return k.checkName(name) == nil
	}
	if k.base.len < len(k.codec.Root) || k.base.levels == badName {
		return false
	}
	st := scanPath(k.base, name)
	if name != "" {
		k.names += st.len
	}
	return st.id > 0 && st.levels >= 3
}

func (k *checker) checkAny(r *Record, has labelSet) error {
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
	return k.checkName(r.Name)
}

// dropIgnored removes the fields that a Fetch record must not have and a decoder must ignore (RFC
// 8790, section 3.1).
func (r *Record) dropIgnored() {
	r.Value, r.Sum, r.UpdateTime = Value{}, Number{}, Number{}
	r.BaseValue, r.BaseSum, r.BaseVersion = Number{}, Number{}, 0
}

func (k *checker) checkName(name string) error {
	st := k.codec.scanName(k.base, name)
	if !k.codec.goodName(st) {
		return ErrName
	}
	if name != "" { // otherwise the base name is the name
		k.names += st.len
	}
	return nil
}

// checkVersion checks that all records of a pack have the same version, which is maxVersion unless
// the first record has another.
func (k *checker) checkVersion(r *Record, has labelSet) error {
	if k.records == 0 {
		k.version = maxVersion
		if has.has(labelVersion) {
			k.version = r.BaseVersion
		}
	}
	if has.has(labelVersion) && (r.BaseVersion < 1 || r.BaseVersion > maxVersion || r.BaseVersion != k.version) {
		return ErrVersion
	}
	return nil
}

// checkOut checks a record before it is encoded: it also refuses records that a decoder never
// returns.
func (k *checker) checkOut(r *Record, has labelSet) error {
	if k.codec.Pack == Fetch && has&^(fetchLabels|pathLabels) != 0 {
		return ErrValue // rather than drop what the caller set
	}
	if err := k.checkAny(r, has); err != nil {
		return err
	}
	if err := r.Value.check(); err != nil {
		return err
	}
	return r.checkRare()
}

// goodOut reports whether the plain record r can be encoded. If it returns false, checkOut decides.
func (k *checker) goodOut(r *Record) bool {
	return r.Value.kind >= NumberKind && r.Value.kind <= DataKind && r.Value.check() == nil && k.goodPlain(r.Name)
}

// check checks a value before it is encoded.
func (v *Value) check() error {
	switch v.kind {
	case NumberKind:
		if v.num.kind >= float && !v.num.isFinite() {
			return ErrNumber
		}
	case StringKind:
		if !utf8.ValidString(v.text) {
			return ErrSyntax
		}
	case LinkKind:
		if !goodLink(v.text) {
			return ErrType
		}
	}
	return nil
}

// checkRare checks the fields that only unusual records have. A valid name is ASCII and needs no
// check.
func (r *Record) checkRare() error {
	for _, s := range [...]string{r.BaseName, r.BaseUnit, r.Unit} {
		if s != "" && !utf8.ValidString(s) {
			return ErrSyntax
		}
	}
	for _, n := range [...]*Number{&r.BaseTime, &r.BaseValue, &r.BaseSum, &r.Time, &r.Sum, &r.UpdateTime} {
		if n.IsSet() && !n.isFinite() {
			return ErrNumber
		}
	}
	return nil
}
