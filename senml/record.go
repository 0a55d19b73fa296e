package senml

import (
	"math"
	"time"
)

// Record is one record of a pack. Base fields apply to this record and those after it until another
// record sets the same field; [Codec.Resolve] applies them. A field with its zero value is absent.
// A decoder also keeps which text fields were present but empty.
type Record struct {
	BaseName    string // bn, prepended to Name
	BaseUnit    string // bu, for records without Unit
	BaseTime    Number // bt, seconds, added to Time
	BaseValue   Number // bv, added to a numeric Value
	BaseSum     Number // bs, added to Sum
	BaseVersion int    // bver, 1 to 10; absent means 10

	Name       string // n
	Unit       string // u
	Value      Value  // v, vs, vb, vd or vlo
	Sum        Number // s, the integral of the value over time
	Time       Number // t, seconds; see Timestamp
	UpdateTime Number // ut, seconds until the sender updates the value at the latest

	// empty lists the string fields that are present although empty, if that differs from absent: a
	// BaseName or BaseUnit that ends the one before, and a Unit without which the base unit would
	// apply.
	empty fieldSet
}

// fieldSet is a set of the fields that can be present and empty.
type fieldSet uint8

const (
	emptyBaseName fieldSet = 1 << iota
	emptyBaseUnit
	emptyUnit
)

// maxVersion is the version of SenML of RFC 8428.
const maxVersion = 10

// AbsoluteTime is the lowest time, in seconds, that counts from 1970. Times below it are relative
// to the time of sending (RFC 8428, section 4.5.3).
const AbsoluteTime = 1 << 28

// Timestamp returns when the value of a resolved record was measured, if the record was sent at
// now: now if it has no time; now plus its time if that is below [AbsoluteTime] (the past if it is
// negative); otherwise its time since 1970, in UTC. Nanoseconds are exact if the number is.
// Relative times are limited to the range of time.Duration, absolute times to the year 9999.
func (r *Record) Timestamp(now time.Time) time.Time {
	sec, nsec := r.Time.split()
	if sec < AbsoluteTime {
		return now.Add(time.Duration(saturate(sec))*time.Second + time.Duration(nsec))
	}
	const year9999 = 253402300799
	return time.Unix(min(sec, year9999), nsec).UTC()
}

// saturate limits a number of seconds to the range of time.Duration, less one second.
func saturate(sec int64) int64 {
	const limit = math.MaxInt64/int64(time.Second) - 1
	return max(-limit, min(sec, limit))
}
