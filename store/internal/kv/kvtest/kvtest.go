// Package kvtest damages records of back ends that are an ordered map of bytes, for tests.
package kvtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// Ways are ways to damage the bytes of a record, by name.
var Ways = map[string]func(record []byte) []byte{
	"garbage":         func([]byte) []byte { return []byte("\x02garbage\xff") },
	"cut short":       func(record []byte) []byte { return record[:len(record)/2] },
	"no bytes":        func([]byte) []byte { return []byte{} },
	"another format":  func(record []byte) []byte { return append([]byte{1}, record[1:]...) },
	"an empty object": func([]byte) []byte { return []byte("\x02{}") },
	"another type":    func([]byte) []byte { return []byte("\x02[1]") },
	"another's record": func(record []byte) []byte {
		return append(record[:len(record)-1], `,"id":"x","endpoint":"x","seq":77}`...)
	},
	"an unknown word": func(record []byte) []byte {
		record = bytes.ReplaceAll(record, []byte(`"phase":"waiting"`), []byte(`"phase":"dozing"`)) // updates and events
		record = bytes.ReplaceAll(record, []byte(`"name":"sensor"`), []byte(`"name":{}`))          // images
		return bytes.ReplaceAll(record, []byte(`"lifetime":300`), []byte(`"lifetime":"md5",":":`)) // devices
	},
}

var tables = map[store.Kind]string{
	store.KindUpdate: "updates", store.KindImage: "images", store.KindDevice: "devices", store.KindEvent: "events",
}

// Spoil replaces the bytes of a record by the result of way. If way is nil, it removes the record,
// but no index entry that names it. Key is that of a store.DamagedError.
func Spoil(b kv.Backend, kind store.Kind, key string, way func([]byte) []byte) error {
	id := []byte(key)
	if kind == store.KindEvent {
		seq, err := strconv.ParseUint(key, 10, 64)
		if err != nil {
			return err
		}
		id = binary.BigEndian.AppendUint64(nil, seq)
	}
	for t := range kv.Tables {
		if t.String() != tables[kind] {
			continue
		}
		return b.Update(func(w kv.Writer) error {
			record := bytes.Clone(w.Get(t, id))
			if len(record) == 0 {
				return fmt.Errorf("there is no %s %s", kind, key)
			}
			spoilt := way(bytes.Clone(record))
			switch {
			case spoilt == nil:
				return w.Delete(t, id)
			case bytes.Equal(spoilt, record):
				return fmt.Errorf("%s %s is as it was", kind, key)
			}
			return w.Put(t, id, spoilt)
		})
	}
	return fmt.Errorf("unknown kind %s", kind)
}
