package senml

import "strings"

func (c Codec) resolve(pack []Record) ([]Record, error) {
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
		r.BaseName, r.BaseUnit, r.Empty = "", "", 0
		r.BaseTime, r.BaseValue, r.BaseSum = Number{}, Number{}, Number{}
		r.BaseVersion = 0
		r.Name = join(&names, base.BaseName, r.Name)
		if !has.has(labelUnit) {
			r.Unit = base.BaseUnit
		}
		if base.BaseTime.IsSet() {
			r.Time = base.BaseTime.Add(r.Time)
		}
		if base.BaseSum.IsSet() {
			r.Sum = base.BaseSum.Add(r.Sum)
		}
		if base.BaseValue.IsSet() && (r.Value.kind == NumberKind || r.Value.kind == None) {
			r.Value = Num(base.BaseValue.Add(r.Value.num))
		}
		if k.version != MaxVersion {
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

// joinedLength is how many bytes the names take that have to be joined.
func (c Codec) joinedLength(pack []Record) (n int) {
	base := ""
	for i := range pack {
		r := &pack[i]
		if r.BaseName != "" || r.Empty&EmptyBaseName != 0 {
			base = r.BaseName
		}
		if base != "" && r.Name != "" {
			n += len(base) + len(r.Name)
		}
	}
	return n
}

// join returns base + name, in memory of names if it is a new string. names has
// room, so that it never moves what was joined before.
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
