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
		out := Record{
			Name:       join(&names, base.BaseName, r.Name),
			Unit:       r.Unit,
			Value:      r.Value,
			Sum:        base.BaseSum.Add(r.Sum),
			Time:       base.BaseTime.Add(r.Time),
			UpdateTime: r.UpdateTime,
		}
		if !has.has(labelUnit) {
			out.Unit = base.BaseUnit
		}
		if base.BaseValue.IsSet() && (out.Value.kind == NumberKind || out.Value.kind == None) {
			out.Value = Num(base.BaseValue.Add(out.Value.num))
		}
		if k.version != MaxVersion {
			out.BaseVersion = k.version
		}
		resolved = append(resolved, out)
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
