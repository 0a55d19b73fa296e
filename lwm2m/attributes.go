package lwm2m

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
)

// Attribute is one of the notification attributes (Core specification, Attributes), which say when
// an observed value is reported.
type Attribute uint8

// The notification attributes. Periods are seconds.
const (
	AttributePMin  Attribute = iota // pmin: minimum time between two notifications
	AttributePMax                   // pmax: maximum time between two notifications
	AttributeGT                     // gt: notify when the value crosses this upper limit
	AttributeLT                     // lt: notify when the value crosses this lower limit
	AttributeST                     // st: notify when the value has changed by this much
	AttributeEPMin                  // epmin: minimum time between two evaluations (1.1)
	AttributeEPMax                  // epmax: maximum time between two evaluations (1.1)
	AttributeEdge                   // edge: notify when a boolean becomes false (0) or true (1) (1.2)
	AttributeCon                    // con: 1 for confirmable notifications, 0 for others (1.2)
	AttributeHQMax                  // hqmax: how many notifications to keep while offline (1.2)

	attributeCount = iota
)

var attributeNames = [attributeCount]string{
	"pmin", "pmax", "gt", "lt", "st", "epmin", "epmax", "edge", "con", "hqmax",
}

// String returns the attribute's name on the wire, such as "pmin".
func (a Attribute) String() string {
	if int(a) < attributeCount {
		return attributeNames[a]
	}
	return "unknown"
}

// ErrAttribute is the category of errors about attributes: an unknown name or a value out of range.
var ErrAttribute = errors.New("lwm2m: bad attribute")

// Attributes is a set of notification attributes. In a Write-Attributes it also names the
// attributes to remove. It is comparable; its zero value is empty.
type Attributes struct {
	values  [attributeCount]float64
	set     uint16
	cleared uint16
}

// Set sets the value of a. It returns [ErrAttribute] for a value that the attribute cannot have:
// periods and hqmax are whole and at least 0, st is above 0, edge and con are 0 or 1.
func (s *Attributes) Set(a Attribute, value float64) error {
	if int(a) >= attributeCount || !a.allows(value) {
		return fmt.Errorf("%w: %s=%v", ErrAttribute, a, value)
	}
	s.values[a] = value
	s.set |= 1 << a
	s.cleared &^= 1 << a
	return nil
}

func (a Attribute) allows(v float64) bool {
	switch a {
	case AttributeGT, AttributeLT:
		return !math.IsNaN(v) && !math.IsInf(v, 0)
	case AttributeST:
		return v > 0 && !math.IsInf(v, 0)
	case AttributeEdge, AttributeCon:
		return v == 0 || v == 1
	default:
		return v >= 0 && v <= math.MaxUint32 && v == math.Trunc(v)
	}
}

// Clear marks a for removal.
func (s *Attributes) Clear(a Attribute) {
	if int(a) >= attributeCount {
		return
	}
	s.values[a] = 0
	s.set &^= 1 << a
	s.cleared |= 1 << a
}

// Get returns the value of a, if it has one.
func (s Attributes) Get(a Attribute) (float64, bool) {
	if int(a) >= attributeCount || s.set&(1<<a) == 0 {
		return 0, false
	}
	return s.values[a], true
}

// duration returns the value of a period, if it has one.
func (s Attributes) duration(a Attribute) (time.Duration, bool) {
	v, ok := s.Get(a)
	return time.Duration(v) * time.Second, ok
}

// clears reports whether a is marked for removal.
func (s Attributes) clears(a Attribute) bool {
	return int(a) < attributeCount && s.cleared&(1<<a) != 0
}

// isZero reports whether s neither sets nor removes an attribute.
func (s Attributes) isZero() bool { return s.set|s.cleared == 0 }

// all returns the attributes that have a value.
func (s Attributes) all() iter.Seq2[Attribute, float64] {
	return func(yield func(Attribute, float64) bool) {
		for a := range Attribute(attributeCount) {
			if v, ok := s.Get(a); ok && !yield(a, v) {
				return
			}
		}
	}
}

// apply returns s after the Write-Attributes w: with the values that w sets, and without the
// attributes that it removes.
func (s Attributes) apply(w Attributes) Attributes {
	for a := range Attribute(attributeCount) {
		if v, ok := w.Get(a); ok {
			s.values[a], s.set = v, s.set|1<<a
		} else if w.clears(a) {
			s.values[a], s.set = 0, s.set&^(1<<a)
		}
	}
	s.cleared = 0
	return s
}

// inherit returns s with its missing attributes taken from the level above.
func (s Attributes) inherit(above Attributes) Attributes {
	for a := range Attribute(attributeCount) {
		if v, ok := above.Get(a); ok && s.set&(1<<a) == 0 {
			s.values[a], s.set = v, s.set|1<<a
		}
	}
	return s
}

// check reports whether the attributes are consistent: pmax is not below pmin, epmax not below
// epmin, and lt + 2*st is below gt when all three are set. Errors are [ErrAttribute].
func (s Attributes) check() error {
	below := func(low, high Attribute) error {
		l, okL := s.Get(low)
		h, okH := s.Get(high)
		if okL && okH && h < l {
			return fmt.Errorf("%w: %s=%v is below %s=%v", ErrAttribute, high, h, low, l)
		}
		return nil
	}
	if err := below(AttributePMin, AttributePMax); err != nil {
		return err
	}
	if err := below(AttributeEPMin, AttributeEPMax); err != nil {
		return err
	}
	lt, okLT := s.Get(AttributeLT)
	st, okST := s.Get(AttributeST)
	gt, okGT := s.Get(AttributeGT)
	if okLT && okST && okGT && !(lt+2*st < gt) {
		return fmt.Errorf("%w: lt=%v with st=%v is not below gt=%v", ErrAttribute, lt, st, gt)
	}
	return nil
}

// parseAttributes reads the Uri-Query options of a Write-Attributes or of an Observe of LwM2M 1.2,
// such as "pmin=10", and "pmin" for removal. It refuses unknown and repeated names with
// [ErrAttribute].
func parseAttributes(queries ...string) (Attributes, error) {
	var s Attributes
	for _, q := range queries {
		name, value, hasValue := strings.Cut(q, "=")
		a, ok := attributeByName(name)
		if !ok || s.clears(a) || s.set&(1<<a) != 0 {
			return Attributes{}, fmt.Errorf("%w: %q", ErrAttribute, q)
		}
		if !hasValue {
			s.Clear(a)
			continue
		}
		if err := s.parse(a, value); err != nil {
			return Attributes{}, err
		}
	}
	return s, nil
}

// parse sets a from its text: a decimal number.
func (s *Attributes) parse(a Attribute, text string) error {
	v, ok := parseFloat(text)
	if !ok {
		return fmt.Errorf("%w: %s=%q", ErrAttribute, a, text)
	}
	f, _ := v.Float64()
	return s.Set(a, f)
}

func attributeByName(name string) (Attribute, bool) {
	for a, n := range attributeNames {
		if n == name {
			return Attribute(a), true
		}
	}
	return 0, false
}

// queries returns the Uri-Query options of a Write-Attributes with s.
func (s Attributes) queries() []string {
	var queries []string
	for a := range Attribute(attributeCount) {
		if v, ok := s.Get(a); ok {
			queries = append(queries, a.String()+"="+formatAttribute(v))
		} else if s.clears(a) {
			queries = append(queries, a.String())
		}
	}
	return queries
}

// formatAttribute writes no exponent: the syntax of attributes has none.
func formatAttribute(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
