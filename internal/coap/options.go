package coap

import (
	"encoding/binary"
	"slices"
)

// AppendOption returns opts with one more option, inserted after those with the same or a lower ID.
func AppendOption(opts Options, id OptionID, value []byte) Options {
	at := len(opts)
	for at > 0 && opts[at-1].ID > id {
		at--
	}
	return slices.Insert(opts, at, Option{ID: id, Value: value})
}

// AppendUint returns opts with one more option whose value is an unsigned integer.
func AppendUint(opts Options, id OptionID, v uint32) Options {
	return AppendOption(opts, id, appendUint(nil, v))
}

// AppendString returns opts with one more option whose value is s.
func AppendString(opts Options, id OptionID, s string) Options {
	return AppendOption(opts, id, []byte(s))
}

// Bytes returns the value of the first option id.
func Bytes(opts Options, id OptionID) ([]byte, bool) {
	for _, o := range opts {
		if o.ID == id {
			return o.Value, true
		}
		if o.ID > id {
			break
		}
	}
	return nil, false
}

// Uint returns the value of the first option id. Leading zeros are accepted; a value of more than 4
// bytes counts as absent.
func Uint(opts Options, id OptionID) (uint32, bool) {
	b, ok := Bytes(opts, id)
	if !ok {
		return 0, false
	}
	return parseUint(b)
}

// Strings returns the values of all options id.
func Strings(opts Options, id OptionID) []string {
	var all []string
	for _, o := range opts {
		if o.ID == id {
			all = append(all, string(o.Value))
		}
	}
	return all
}

// appendUint appends v as an option value: big endian, no leading zeros.
func appendUint(dst []byte, v uint32) []byte {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	i := 0
	for i < 4 && b[i] == 0 {
		i++
	}
	return append(dst, b[i:]...)
}

func parseUint(b []byte) (v uint32, ok bool) {
	if len(b) > 4 {
		return 0, false
	}
	for _, c := range b {
		v = v<<8 | uint32(c)
	}
	return v, true
}

// formatOf reads a Content-Format or Accept option.
func formatOf(opts Options, id OptionID) Format {
	if v, ok := Uint(opts, id); ok {
		return FormatOf(uint16(v))
	}
	return Format{}
}
