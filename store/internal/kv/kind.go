package kv

import (
	"errors"
	"strconv"

	"github.com/otago-iot/otago/store"
)

// A kind says how to keep records of one type.
type kind[T any] struct {
	kind  store.Kind
	table Table
	key   func(T) []byte      // of the record
	blank func(key []byte) T  // a record that has only its key
	check func(T) error       // further checks; may be nil
	name  func([]byte) string // the key in an error
}

func name(key []byte) string { return string(key) }

var (
	updateKind = kind[store.Update]{
		kind: store.KindUpdate, table: updates, name: name,
		key:   func(u store.Update) []byte { return []byte(u.ID) },
		blank: func(key []byte) store.Update { return store.Update{ID: string(key)} },
		check: func(u store.Update) error {
			if u.Machine.Phase == "" {
				return errors.New("it has no phase")
			}
			return nil
		},
	}
	imageKind = kind[store.Image]{
		kind: store.KindImage, table: images, name: name,
		key:   func(i store.Image) []byte { return []byte(i.ID) },
		blank: func(key []byte) store.Image { return store.Image{ID: string(key)} },
	}
	deviceKind = kind[store.Device]{
		kind: store.KindDevice, table: devices, name: name,
		key:   func(d store.Device) []byte { return []byte(d.Endpoint) },
		blank: func(key []byte) store.Device { return store.Device{Endpoint: string(key)} },
	}
	eventKind = kind[store.Event]{
		kind: store.KindEvent, table: events,
		name:  func(key []byte) string { return strconv.FormatUint(parseNumber(key), 10) },
		key:   func(e store.Event) []byte { return number(e.Seq) },
		blank: func(key []byte) store.Event { return store.Event{Seq: parseNumber(key)} },
	}
)

// decode returns the record in data. The error is a *store.DamagedError, and comes with a record
// that has only its key.
func (k *kind[T]) decode(key, data []byte) (T, error) {
	record, err := decode[T](data)
	switch {
	case err != nil:
	case string(k.key(record)) != string(key):
		err = errors.New("it is the record of another key")
	case k.check != nil:
		err = k.check(record)
	}
	if err != nil {
		return k.blank(key), &store.DamagedError{Kind: k.kind, Key: k.name(key), Err: err}
	}
	return record, nil
}

// drop removes a damaged record, and reports whether there was a record.
func (k *kind[T]) drop(o *overlay, key []byte) (bool, error) {
	data := o.get(k.table, key)
	if data == nil {
		return false, nil
	}
	if _, err := k.decode(key, data); err == nil {
		return false, store.ErrNotDamaged
	}
	o.delete(k.table, key)
	return true, nil
}
