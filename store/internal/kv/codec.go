package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"hash/crc32"
	"time"
)

// format is the first byte of every record, and the value of FormatKey. New fields need no new
// format, since a reader ignores what it does not know. Raise it if an older reader would
// misunderstand a record.
const format = 6

// A sealed record is its format, a checksum of its key and content, and its content.
const sealSize = 5

var (
	mark     = []byte{'.'}
	checksum = crc32.MakeTable(crc32.Castagnoli)
)

// seal sets the head of a record, of which the first sealSize bytes are empty.
func seal(key, data []byte) {
	data[0] = format
	binary.LittleEndian.PutUint32(data[1:], sum(key, data))
}

func sum(key, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, checksum), checksum, data[sealSize:])
}

// unseal returns the content of a record.
func unseal(key, data []byte) ([]byte, error) {
	switch {
	case data == nil:
		return nil, errors.New("an index names it, and it does not exist")
	case len(data) == 0:
		return nil, errors.New("it is empty")
	case data[0] != format:
		return nil, fmt.Errorf("it has format %d, not %d", data[0], format)
	case len(data) < sealSize:
		return nil, errors.New("it is cut short")
	case binary.LittleEndian.Uint32(data[1:]) != sum(key, data):
		return nil, errors.New("its checksum is wrong")
	}
	return data[sealSize:], nil
}

// join makes a key of a text, which may hold any bytes, and a rest. Keys with the same text are
// adjacent, ordered by their rests.
func join[B string | []byte](text string, rest B) []byte {
	key := make([]byte, 0, 2+len(text)+len(rest))
	key = binary.BigEndian.AppendUint16(key, uint16(len(text)))
	key = append(key, text...)
	return append(key, rest...)
}

func labelKey(name, value, id string) []byte { return join(name, join(value, id)) }

// endKeyOf returns the key of an update that has ended in byEnd.
func endKeyOf(u *store.Update) []byte { return endKey(u.Machine.Outcome, u.End(), u.ID) }

func endKey(outcome fsm.Outcome, end time.Time, id string) []byte {
	key := join(string(outcome), "")
	return append(binary.BigEndian.AppendUint64(key, uint64(end.UnixMicro())^1<<63), id...)
}

// endIn returns the time of the end, and the id, in the rest of a key of byEnd.
func endIn(rest []byte) (end time.Time, id []byte) {
	if len(rest) < 8 { // the file is damaged
		return end, rest
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(rest) ^ 1<<63)).UTC(), rest[8:]
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
