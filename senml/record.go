package senml

import (
	"math"
	"time"
)

// Record is one record of a pack. The base fields hold for this record and the
// ones after it until another record sets the same field; [Resolve] applies
// them. A field with its zero value is absent.
type Record struct {
	BaseName    string // bn, prepended to Name
	BaseUnit    string // bu, for records without Unit
	BaseTime    Number // bt, seconds, added to Time
	BaseValue   Number // bv, added to a numeric Value
	BaseSum     Number // bs, added to Sum
	BaseVersion int    // bver, 1 to MaxVersion; absent means MaxVersion

	Name       string // n
	Unit       string // u
	Value      Value  // v, vs, vb, vd or vlo
	Sum        Number // s, the integral of the value over time
	Time       Number // t, seconds; see Timestamp
	UpdateTime Number // ut, seconds until the sender updates the value at the latest

	// Empty lists the string fields that are present although empty, where that
	// differs from absent: a BaseName or BaseUnit that ends the one before, and a
	// Unit that keeps the base unit off this record.
	Empty Fields
}

// Fields is a set of fields.
type Fields uint8

// The fields that can be present and empty.
const (
	EmptyBaseName Fields = 1 << iota
	EmptyBaseUnit
	EmptyUnit
)

// MaxVersion is the version of SenML that this package implements, RFC 8428's.
const MaxVersion = 10

// AbsoluteTime is the first time that counts from 1970. A time below it, in
// seconds, is relative to "now" (RFC 8428, section 4.5.3).
const AbsoluteTime = 1 << 28

// Timestamp returns when the value was measured, for a resolved record that was
// sent at now: now itself if it has no time, now plus its time if that is below
// [AbsoluteTime] (the past if negative), else its time in UTC since 1970.
// Nanoseconds are exact if the number is. Relative times saturate at the range
// of time.Duration, absolute ones at the year 9999.
func (r *Record) Timestamp(now time.Time) time.Time {
	sec, nsec := r.Time.split()
	if sec < AbsoluteTime {
		return now.Add(time.Duration(saturate(sec))*time.Second + time.Duration(nsec))
	}
	const year9999 = 253402300799
	return time.Unix(min(sec, year9999), nsec).UTC()
}

// saturate keeps a number of seconds within time.Duration, less one second.
func saturate(sec int64) int64 {
	const limit = math.MaxInt64/int64(time.Second) - 1
	return max(-limit, min(sec, limit))
}
