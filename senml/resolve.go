package senml

import "strings"

// Resolve applies the base fields of a pack to its records, in place, and returns the resolved
// records, which have no base fields (RFC 8428, section 4.6; BaseVersion stays if it is not 10).
// Records that only set base fields are dropped, except from a Fetch pack. The order stays, and
// relative times stay relative; see [Record.Timestamp]. All names share one allocation.
//
// A pack that the same Codec decoded resolves without error. For any other a [*SyntaxError] names
// the record, and the contents of pack are then undefined.
func (c Codec) Resolve(pack []Record) ([]Record, error) {
	var names strings.Builder
	names.Grow(c.joinedLength(pack))
	k := checker{codec: c}
	var base Record // the base fields in effect
	resolved := pack[:0]
	for i := range pack {
		r := &pack[i]
		has := r.labels()
		if err := k.check(r, has); err != nil {
			return pack[:0], &SyntaxError{Offset: -1, Record: i, Err: err}
		}
		base.rebase(r, has)
		if c.Pack != Fetch && has&regularLabels == 0 {
			continue
		}
		r.BaseName, r.BaseUnit, r.empty = "", "", 0
		r.BaseTime, r.BaseValue, r.BaseSum = Number{}, Number{}, Number{}
		r.BaseVersion = 0
		r.Name = join(&names, base.BaseName, r.Name)
		if !has.has(labelUnit) {
			r.Unit = base.BaseUnit
		}
		if base.BaseTime.IsSet() {
			r.Time = base.BaseTime.add(r.Time)
		}
		if base.BaseSum.IsSet() {
			r.Sum = base.BaseSum.add(r.Sum)
		}
		if base.BaseValue.IsSet() && (r.Value.kind == NumberKind || r.Value.kind == None) {
			r.Value = Num(base.BaseValue.add(r.Value.num))
		}
		if k.version != maxVersion {
			r.BaseVersion = k.version
		}
		if len(resolved) < i {
			pack[len(resolved)] = *r
		}
		resolved = pack[:len(resolved)+1]
	}
	clear(pack[len(resolved):])
	return resolved, nil
}

// rebase takes over the base fields that r sets.
func (base *Record) rebase(r *Record, has labelSet) {
	if has.has(labelBaseName) {
		base.BaseName = r.BaseName
	}
	if has.has(labelBaseUnit) {
		base.BaseUnit = r.BaseUnit
	}
	if has.has(labelBaseTime) {
		base.BaseTime = r.BaseTime
	}
	if has.has(labelBaseValue) {
		base.BaseValue = r.BaseValue
	}
	if has.has(labelBaseSum) {
		base.BaseSum = r.BaseSum
	}
}

// joinedLength returns how many bytes the joined names take.
func (c Codec) joinedLength(pack []Record) (n int) {
	base := ""
	for i := range pack {
		r := &pack[i]
		if r.BaseName != "" || r.empty&emptyBaseName != 0 {
			base = r.BaseName
		}
		if base != "" && r.Name != "" {
			n += len(base) + len(r.Name)
		}
	}
	return n
}

// join returns base + name, stored in names if it is a new string. names has enough room, so it
// never moves earlier strings.
func join(names *strings.Builder, base, name string) string {
	switch {
	case base == "":
		return name
	case name == "":
		return base
	}
	start := names.Len()
	names.WriteString(base)
	names.WriteString(name)
	return names.String()[start:]
}
