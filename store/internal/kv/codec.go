package kv

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
)

// format is the first byte of every record, and the value of FormatKey. New fields need no new
// format, since a reader ignores what it does not know. Raise it if an older reader would
// misunderstand a record.
const format = 2

var mark = []byte{'.'}

func encode(record any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(format)
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // otherwise each < and > of a device's links takes six bytes
	if err := e.Encode(record); err != nil {
		return nil, fmt.Errorf("store: encoding: %w", err)
	}
	return b.Bytes()[:b.Len()-1], nil // without the end of the line
}

func decode[T any](data []byte) (record T, err error) {
	switch {
	case data == nil:
		return record, errors.New("an index names it, and it does not exist")
	case len(data) == 0:
		return record, errors.New("it is empty")
	case data[0] != format:
		return record, fmt.Errorf("it has format %d, not %d", data[0], format)
	}
	err = json.Unmarshal(data[1:], &record)
	return record, err
}

// join makes a key of a text, which may hold any bytes, and a rest. Keys with the same text are
// adjacent, ordered by their rests.
func join[B string | []byte](text string, rest B) []byte {
	key := make([]byte, 0, 2+len(text)+len(rest))
	key = binary.BigEndian.AppendUint16(key, uint16(len(text)))
	key = append(key, text...)
	return append(key, rest...)
}

// text returns the text of a key that join made.
func text(key []byte) []byte { return key[2 : 2+binary.BigEndian.Uint16(key)] }

// rest returns the rest of a key that join made.
func rest(key []byte) []byte { return key[2+binary.BigEndian.Uint16(key):] }

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// parseNumber returns 0 for nil.
func parseNumber(data []byte) uint64 {
	if len(data) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(data)
}

// after returns the lowest key that is higher than every key with the prefix, or nil if there is
// none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
