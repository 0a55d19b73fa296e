// Package kvtest damages records of back ends that are an ordered map of bytes, for tests.
package kvtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/internal/kv"
)

// Ways are ways to damage the bytes of a record, by name. They get its key too.
var Ways = map[string]func(key, record []byte) []byte{
	"garbage":        func(_, _ []byte) []byte { return []byte("\x05garbage\xff") },
	"cut short":      func(_, record []byte) []byte { return record[:len(record)/2] },
	"cut":            func(_, _ []byte) []byte { return []byte("\x05ab") },
	"no bytes":       func(_, _ []byte) []byte { return []byte{} },
	"another format": func(_, record []byte) []byte { return append([]byte{2}, record[1:]...) },
	"one bit": func(_, record []byte) []byte {
		record[len(record)-1] ^= 0x10
		return record
	},
	"another's record": func(key, record []byte) []byte { return sealed([]byte("x"), record[sealSize:]) },
	"no record":        func(key, _ []byte) []byte { return sealed(key, []byte("\xff\xff")) },
}

// sealSize is how many bytes of a record are its format and its checksum.
const sealSize = 5

func sealed(key, content []byte) []byte {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(key, table), table, content)
	return append(binary.LittleEndian.AppendUint32([]byte{5}, sum), content...)
}

var tables = map[store.Kind]string{
	store.KindUpdate: "updates", store.KindImage: "images", store.KindDevice: "devices", store.KindEvent: "events",
	store.KindRollout: "rollouts", store.KindMember: "members", store.KindRolloutEvent: "rollout_events",
}

// Spoil replaces the bytes of a record by the result of way. If way is nil, it removes the record,
// but no index entry that names it. Key is that of a store.DamagedError.
func Spoil(b kv.Backend, kind store.Kind, key string, way func(key, record []byte) []byte) error {
	id := []byte(key)
	rollout, of, _ := strings.Cut(key, " ")
	switch kind {
	case store.KindMember:
		id = append(binary.BigEndian.AppendUint16(nil, uint16(len(rollout))), rollout+store.MemberOrder(rollout, of)+of...)
	case store.KindEvent, store.KindRolloutEvent:
		id = nil
		if kind == store.KindRolloutEvent {
			id, key = append(binary.BigEndian.AppendUint16(nil, uint16(len(rollout))), rollout...), of
		}
		seq, err := strconv.ParseUint(key, 10, 64)
		if err != nil {
			return err
		}
		id = binary.BigEndian.AppendUint64(id, seq)
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
			spoilt := way(id, bytes.Clone(record))
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
