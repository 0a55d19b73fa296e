package senml

// label is one of the fields that this package knows, in the order in which the encoders write
// them: base fields first, as in the examples of RFC 8428.
type label uint8

const (
	labelBaseName label = iota
	labelBaseTime
	labelBaseUnit
	labelBaseValue
	labelBaseSum
	labelVersion
	labelName
	labelUnit
	labelTime
	labelValue
	labelString
	labelBool
	labelData
	labelLink
	labelSum
	labelUpdateTime
	unknownLabel
)

// labelSet is a set of labels.
type labelSet uint32

const (
	valueLabels   labelSet = 1<<labelValue | 1<<labelString | 1<<labelBool | 1<<labelData | 1<<labelLink
	regularLabels labelSet = valueLabels | 1<<labelName | 1<<labelUnit | 1<<labelTime | 1<<labelSum | 1<<labelUpdateTime
	fetchLabels   labelSet = 1<<labelBaseName | 1<<labelBaseTime | 1<<labelBaseUnit | 1<<labelName | 1<<labelUnit | 1<<labelTime
	pathLabels    labelSet = 1<<labelBaseName | 1<<labelBaseUnit | 1<<labelVersion | 1<<labelName | 1<<labelUnit
)

func (s labelSet) has(l label) bool { return s&(1<<l) != 0 }

// labelOf returns the label with the given name in JSON.
func labelOf(name string) label {
	switch name {
	case "bn":
		return labelBaseName
	case "bt":
		return labelBaseTime
	case "bu":
		return labelBaseUnit
	case "bv":
		return labelBaseValue
	case "bs":
		return labelBaseSum
	case "bver":
		return labelVersion
	case "n":
		return labelName
	case "u":
		return labelUnit
	case "t":
		return labelTime
	case "v":
		return labelValue
	case "vs":
		return labelString
	case "vb":
		return labelBool
	case "vd":
		return labelData
	case "vlo":
		return labelLink
	case "s":
		return labelSum
	case "ut":
		return labelUpdateTime
	}
	return unknownLabel
}

// labels returns the set of fields that r has. An empty Name does not count.
func (r *Record) labels() labelSet {
	s := labelOfKind[r.Value.kind&7]
	if r.Name != "" {
		s |= 1 << labelName
	}
	if !r.isPlain() {
		s |= r.rareLabels()
	}
	return s
}

// isPlain reports whether r has no fields but its name and value, as do nearly all records but the
// first of a pack. It costs one branch.
func (r *Record) isPlain() bool {
	return len(r.BaseName)|len(r.BaseUnit)|len(r.Unit)|r.BaseVersion|int(r.empty)|
		int(r.BaseTime.kind|r.BaseValue.kind|r.BaseSum.kind|r.Sum.kind|r.Time.kind|r.UpdateTime.kind) == 0
}

func (r *Record) rareLabels() (s labelSet) {
	if r.BaseName != "" || r.empty&emptyBaseName != 0 {
		s |= 1 << labelBaseName
	}
	if r.BaseTime.IsSet() {
		s |= 1 << labelBaseTime
	}
	if r.BaseUnit != "" || r.empty&emptyBaseUnit != 0 {
		s |= 1 << labelBaseUnit
	}
	if r.BaseValue.IsSet() {
		s |= 1 << labelBaseValue
	}
	if r.BaseSum.IsSet() {
		s |= 1 << labelBaseSum
	}
	if r.BaseVersion != 0 {
		s |= 1 << labelVersion
	}
	if r.Unit != "" || r.empty&emptyUnit != 0 {
		s |= 1 << labelUnit
	}
	if r.Time.IsSet() {
		s |= 1 << labelTime
	}
	if r.Sum.IsSet() {
		s |= 1 << labelSum
	}
	if r.UpdateTime.IsSet() {
		s |= 1 << labelUpdateTime
	}
	return s
}

var labelOfKind = [8]labelSet{
	None:       0,
	NumberKind: 1 << labelValue,
	NullKind:   1 << labelValue,
	StringKind: 1 << labelString,
	BoolKind:   1 << labelBool,
	DataKind:   1 << labelData,
	LinkKind:   1 << labelLink,
}

// number returns where r keeps the number with label l, or nil if l is no label of a number.
func (r *Record) number(l label) *Number {
	switch l {
	case labelBaseTime:
		return &r.BaseTime
	case labelBaseValue:
		return &r.BaseValue
	case labelBaseSum:
		return &r.BaseSum
	case labelTime:
		return &r.Time
	case labelSum:
		return &r.Sum
	case labelUpdateTime:
		return &r.UpdateTime
	}
	return nil
}

// setText sets the field with label l, which is a string in both formats, and not the name.
func (r *Record) setText(l label, s string) error {
	switch l {
	case labelString:
		r.Value.kind, r.Value.text = StringKind, s
	case labelLink:
		r.Value.kind, r.Value.text = LinkKind, s
		if !goodLink(s) {
			return ErrType
		}
	case labelUnit:
		r.Unit = s
		r.empty |= emptyIf(s, emptyUnit)
	case labelBaseName:
		r.BaseName = s
		r.empty |= emptyIf(s, emptyBaseName)
	case labelBaseUnit:
		r.BaseUnit = s
		r.empty |= emptyIf(s, emptyBaseUnit)
	}
	return nil
}

func emptyIf(s string, f fieldSet) fieldSet {
	if s == "" {
		return f
	}
	return 0
}

// setVersion sets the version. It returns ErrType for anything but a positive integer.
func (r *Record) setVersion(n Number) error {
	v, ok := n.Uint64()
	if !ok || v == 0 {
		return ErrType
	}
	r.BaseVersion = int(min(v, maxVersion+1))
	return nil
}
