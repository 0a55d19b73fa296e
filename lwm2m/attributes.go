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
	AttributePMin  Attribute = iota // pmin: least time between two notifications
	AttributePMax                   // pmax: most time between two notifications
	AttributeGT                     // gt: notify when the value crosses this, upper one
	AttributeLT                     // lt: the lower one
	AttributeST                     // st: notify when the value changed by this much
	AttributeEPMin                  // epmin: least time between two evaluations (1.1)
	AttributeEPMax                  // epmax: most time between two evaluations (1.1)
	AttributeEdge                   // edge: 0 notify on falling, 1 on rising booleans (1.2)
	AttributeCon                    // con: 1 notify confirmably, 0 not (1.2)
	AttributeHQMax                  // hqmax: how many notifications are kept while offline (1.2)

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

// Attributes is a set of notification attributes. As the content of a Write-Attributes it also says
// which attributes are to be removed. It is comparable; its zero value is empty.
type Attributes struct {
	values  [attributeCount]float64
	set     uint16
	cleared uint16
}

// Set gives a value to a and returns an error, [ErrAttribute], for a value that the attribute
// cannot have: periods and hqmax are whole and at least 0, st is above 0, edge and con are 0 or 1.
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

// Clear says that a is to be removed.
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

// clears reports whether a is to be removed.
func (s Attributes) clears(a Attribute) bool {
	return int(a) < attributeCount && s.cleared&(1<<a) != 0
}

// isZero reports whether nothing is set or to be removed.
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

// apply returns s after the Write-Attributes w: with its values, and without what it removes.
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

// inherit returns s with what it lacks taken from the level above it.
func (s Attributes) inherit(above Attributes) Attributes {
	for a := range Attribute(attributeCount) {
		if v, ok := above.Get(a); ok && s.set&(1<<a) == 0 {
			s.values[a], s.set = v, s.set|1<<a
		}
	}
	return s
}

// check reports whether attributes go together: pmax is not below pmin, epmax not below epmin, and
// lt + 2*st is below gt when all three are set. Errors are [ErrAttribute].
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
// such as "pmin=10", and "pmin" for removal. Unknown and repeated names are refused with
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

// formatAttribute never writes an exponent, which attribute values lack.
func formatAttribute(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
