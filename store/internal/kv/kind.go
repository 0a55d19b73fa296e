package kv

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/otago-iot/otago/internal/record"
	"github.com/otago-iot/otago/store"
)

// A kind says how to keep records of one type. A record is kept without its key.
type kind[T any] struct {
	kind   store.Kind
	table  Table
	append func(b []byte, record *T) ([]byte, error)
	parse  func(content []byte, record *T) error
	key    func(record *T, key []byte) // sets the key
	name   func([]byte) string         // the key in an error
}

func name(key []byte) string { return string(key) }

var (
	updateKind = kind[store.Update]{
		kind: store.KindUpdate, table: updates, name: name,
		append: appendUpdate, parse: parseUpdate,
		key: func(u *store.Update, key []byte) { u.ID = string(key) },
	}
	imageKind = kind[store.Image]{
		kind: store.KindImage, table: images, name: name,
		append: withoutKey(imageCodec), parse: imageCodec.Decode,
		key: func(i *store.Image, key []byte) { i.ID = string(key) },
	}
	deviceKind = kind[store.Device]{
		kind: store.KindDevice, table: devices, name: name,
		append: withoutKey(deviceCodec), parse: deviceCodec.Decode,
		key: func(d *store.Device, key []byte) { d.Endpoint = string(key) },
	}
	updateCodec = record.Of[store.Update]()
	imageCodec  = record.Of[store.Image]()
	deviceCodec = record.Of[store.Device]()
)

// The fields of an update that change have these numbers or higher ones; those before never change.
const (
	firstFixed   = 2 // after the id
	lastFixed    = 7
	firstChanged = 9 // after the revision
)

// The fields of a device.
const (
	deviceRegistration = 2
	deviceFirmware     = 3
	deviceLabels       = 4
)

// A sighting has the times of a registration that change with each renewal.
type sighting struct {
	Updated  time.Time `record:"1"`
	LastSeen time.Time `record:"2"`
}

var sightingCodec = record.Of[sighting]()

// readDevice reads the device in data, with its times. Of a sighting that cannot be read it takes
// the time of the Register, as the times may lag.
func readDevice(r Reader, key, data []byte, d *store.Device) error {
	if err := deviceKind.decodeTo(d, key, data); err != nil {
		return err
	}
	if data := r.Get(seen, key); data != nil {
		times := sighting{d.Registration.Registered, d.Registration.Registered}
		if content, err := unseal(key, data); err == nil {
			var read sighting
			if sightingCodec.Decode(content, &read) == nil {
				times = read
			}
		}
		d.Registration.Updated, d.Registration.LastSeen = times.Updated, times.LastSeen
	}
	return nil
}

// withoutKey appends all fields except the key, which is the first.
func withoutKey[T any](codec *record.Codec[T]) func([]byte, *T) ([]byte, error) {
	return func(b []byte, v *T) ([]byte, error) { return codec.AppendRange(b, v, 2, math.MaxUint64) }
}

// decode returns the record in data. The error is a *store.DamagedError, and comes with a record
// that has only its key.
func (k *kind[T]) decode(key, data []byte) (record T, err error) {
	err = k.decodeTo(&record, key, data)
	return record, err
}

// decodeTo is decode into a record that is empty.
func (k *kind[T]) decodeTo(record *T, key, data []byte) error {
	content, err := unseal(key, data)
	if err == nil {
		err = k.parse(content, record)
	}
	if err != nil {
		var zero T
		*record, err = zero, k.damaged(key, err)
	}
	k.key(record, key)
	return err
}

func (k *kind[T]) damaged(key []byte, err error) error {
	return &store.DamagedError{Kind: k.kind, Key: k.name(key), Err: err}
}

// put puts a record into the overlay.
func (k *kind[T]) put(o *overlay, key []byte, record *T) error {
	data, err := k.append(append(o.buffer[:0], make([]byte, sealSize)...), record)
	o.buffer = data
	if err != nil {
		return err
	}
	seal(key, data)
	o.put(k.table, key, bytes.Clone(data))
	return nil
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

// An update is kept as its revision, twice, plus one while it is active; the length of the fields
// that never change; these; and then the others. So a new record is made without decoding the old
// one.
type updateHead struct {
	revision uint64
	active   bool
	fixed    []byte
}

func appendUpdate(b []byte, u *store.Update) ([]byte, error) {
	b = appendRevision(b, u.Revision, u.Active())
	start := len(b)
	b, err := updateCodec.AppendRange(b, u, firstFixed, lastFixed)
	if err != nil {
		return b, err
	}
	var length [binary.MaxVarintLen64]byte
	b = slices.Insert(b, start, length[:binary.PutUvarint(length[:], uint64(len(b)-start))]...)
	return updateCodec.AppendRange(b, u, firstChanged, math.MaxUint64)
}

func appendRevision(b []byte, revision uint64, active bool) []byte {
	head := revision << 1
	if active {
		head++
	}
	return binary.AppendUvarint(b, head)
}

var errHead = errors.New("its head is damaged")

// parseHead returns the head of an update's content, and the record that follows.
func parseHead(content []byte) (head updateHead, rest []byte, err error) {
	n, size := binary.Uvarint(content)
	if size <= 0 {
		return head, nil, errHead
	}
	head.revision, head.active = n>>1, n&1 != 0
	content = content[size:]
	if n, size = binary.Uvarint(content); size <= 0 || n > uint64(len(content)-size) {
		return head, nil, errHead
	}
	rest = content[size:]
	head.fixed = rest[:n]
	return head, rest, nil
}

func parseUpdate(content []byte, u *store.Update) error {
	head, rest, err := parseHead(content)
	if err != nil {
		return err
	}
	if err := updateCodec.Decode(rest, u); err != nil {
		return err
	}
	u.Revision = head.revision
	switch {
	case u.Machine.Phase == "":
		return errors.New("it has no phase")
	case u.Active() != head.active:
		return errHead
	}
	return nil
}
