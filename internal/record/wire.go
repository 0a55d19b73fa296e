package record

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
)

var (
	errShort = errors.New("record: it ends within a field")
	errKind  = errors.New("record: a number where bytes belong, or bytes where a number belongs")
	errRange = errors.New("record: a number is out of range")
)

// A rawField is one field of a record: a number or bytes.
type rawField struct {
	number  uint64
	isBytes bool
	n       uint64
	text    string
}

// nextField returns the first field of data, and what follows it.
func nextField(data string) (f rawField, rest string, err error) {
	head, rest, ok := uvarint(data)
	if !ok {
		return f, "", errShort
	}
	f.number, f.isBytes = head>>1, head&1 != 0
	if f.n, rest, ok = uvarint(rest); !ok {
		return f, "", errShort
	}
	if f.isBytes {
		if f.n > uint64(len(rest)) {
			return f, "", errShort
		}
		f.text, rest = rest[:f.n], rest[f.n:]
	}
	return f, rest, nil
}

func uvarint(data string) (n uint64, rest string, ok bool) {
	for i := 0; i < len(data) && i < binary.MaxVarintLen64; i++ {
		c := data[i]
		if c >= 0x80 {
			n |= uint64(c&0x7f) << (7 * i)
			continue
		}
		if i == binary.MaxVarintLen64-1 && c > 1 || i > 0 && c == 0 {
			return 0, "", false // more than 64 bits, or longer than it has to be
		}
		return n | uint64(c)<<(7*i), data[i+1:], true
	}
	return 0, "", false
}

func appendNumber(b []byte, number, n uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, number<<1), n)
}

func appendText(b []byte, number uint64, text string) []byte {
	b = binary.AppendUvarint(b, number<<1|1)
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// beginBytes appends the head of a field of bytes, with room for a length of one byte, and returns
// where its bytes start.
func beginBytes(b []byte, number uint64) (grown []byte, start int) {
	b = append(binary.AppendUvarint(b, number<<1|1), 0)
	return b, len(b)
}

// endBytes sets the length of a field that beginBytes began.
func endBytes(b []byte, start int) []byte {
	n := len(b) - start
	if n < 0x80 {
		b[start-1] = byte(n)
		return b
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], uint64(n))
	b = slices.Insert(b, start, length[1:size]...)
	b[start-1] = length[0]
	return b
}

// more returns how many bytes more than one the head of a field takes.
func more(number uint64) int {
	n := 0
	for head := number << 1; head >= 0x80; head >>= 7 {
		n++
	}
	return n
}

func zigzag(n int64) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

func unzigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }

// appendScaled appends a count of units that is often a multiple of scale: the lowest bit says so.
// It returns false for a count that has not two bits to spare.
func appendScaled(b []byte, number uint64, n, scale int64) ([]byte, bool) {
	switch {
	case n%scale == 0:
		return appendNumber(b, number, zigzag(n/scale)<<1|1), true
	case n > math.MaxInt64/2 || n < math.MinInt64/2:
		return b, false
	}
	return appendNumber(b, number, zigzag(n)<<1), true
}

func scaled(n uint64, scale int64) (int64, error) {
	value := unzigzag(n >> 1)
	if n&1 == 0 {
		return value, nil
	}
	if value > math.MaxInt64/scale || value < math.MinInt64/scale {
		return 0, errRange
	}
	return value * scale, nil
}
