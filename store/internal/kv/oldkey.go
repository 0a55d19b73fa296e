package kv

import (
	"bytes"
	"time"

	"github.com/otago-iot/otago/store"
)

// numberSize is the length of what number returns.
const numberSize = 8

// oldKey returns the id of the removed update that still has the idempotency key at a time, or "".
// If the time of the key has come, it frees the key.
func oldKey(o *overlay, key string, at time.Time) (id string) {
	value := o.get(oldKeys, []byte(key))
	switch {
	case len(value) < numberSize:
		return ""
	case bytes.Compare(value[:numberSize], timeKey(at)) > 0:
		return string(value[numberSize:])
	}
	freeKey(o, value[:numberSize], []byte(key))
	return ""
}

// maxFreed is how many keys one removal frees at most. It adds one, so that their number falls.
const maxFreed = 4

// keepKey keeps the idempotency key of an update that is removed at a time, and frees the keys of
// others whose time has come.
func keepKey(o *overlay, key, id string, at time.Time) {
	var free [][]byte
	now := timeKey(at)
	for entry := range o.Ascend(oldKeyTimes, nil) {
		if bytes.Compare(entry[:numberSize], now) > 0 || len(free) == maxFreed {
			break
		}
		free = append(free, bytes.Clone(entry))
	}
	for _, entry := range free {
		freeKey(o, entry[:numberSize], entry[numberSize:])
	}
	until := timeKey(at.Add(store.KeyRest))
	o.put(oldKeyTimes, append(bytes.Clone(until), key...), mark)
	o.put(oldKeys, []byte(key), append(until, id...))
}

func freeKey(o *overlay, until, key []byte) {
	o.delete(oldKeyTimes, append(bytes.Clone(until), key...))
	o.delete(oldKeys, bytes.Clone(key))
}

// timeKey returns a time in microseconds; all times before 1970 are the same.
func timeKey(t time.Time) []byte { return number(uint64(max(t.UnixMicro(), 0))) }
