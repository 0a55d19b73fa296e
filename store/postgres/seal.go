package postgres

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// format is the first byte of every record column. New fields need no new format, since a reader
// ignores what it does not know.
const format = 1

// A record column has its format, a checksum of its key and content, and the content: the
// AppendBinary of a record without what other columns have.
const sealSize = 5

var checksum = crc32.MakeTable(crc32.Castagnoli)

func sum(key string, content []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), checksum), checksum, content)
}

// seal returns the record column of a record, whose key has no other column's text in it.
func seal(key string, record interface {
	AppendBinary(b []byte) ([]byte, error)
}) ([]byte, error) {
	data, err := record.AppendBinary(append(make([]byte, 0, 512), make([]byte, sealSize)...))
	if err != nil {
		return nil, err
	}
	data[0] = format
	binary.LittleEndian.PutUint32(data[1:], sum(key, data[sealSize:]))
	return data, nil
}

// content returns the content of a record column.
func content(key string, data []byte) ([]byte, error) {
	switch {
	case len(data) == 0:
		return nil, errors.New("it is empty")
	case data[0] != format:
		return nil, fmt.Errorf("it has format %d, not %d", data[0], format)
	case len(data) < sealSize:
		return nil, errors.New("it is cut short")
	case binary.LittleEndian.Uint32(data[1:]) != sum(key, data[sealSize:]):
		return nil, errors.New("its checksum is wrong")
	}
	return data[sealSize:], nil
}

// unseal sets the record to what a record column has. The error is a *store.DamagedError, and the
// record is then zero.
func unseal[T any, P interface {
	*T
	UnmarshalBinary(data []byte) error
}](kind store.Kind, key string, data []byte, record P) error {
	inner, err := content(key, data)
	if err == nil {
		err = record.UnmarshalBinary(inner)
	}
	if err != nil {
		var zero T
		*record = zero
		return &store.DamagedError{Kind: kind, Key: key, Err: err}
	}
	return nil
}

// sealUpdate returns the record column of an update.
func sealUpdate(u *store.Update) ([]byte, error) {
	rest := *u
	rest.ID, rest.Endpoint, rest.Image, rest.Key, rest.Labels = "", "", "", "", nil
	rest.Revision, rest.Since, rest.Created = 0, 0, time.Time{}
	return seal(u.ID, &rest)
}

// unsealUpdate adds to an update, which has its other columns, what the record column has.
func unsealUpdate(u *store.Update, data []byte) error {
	var rest store.Update
	if err := unseal(store.KindUpdate, u.ID, data, &rest); err != nil {
		return err
	}
	if rest.Machine.Phase == "" {
		return &store.DamagedError{Kind: store.KindUpdate, Key: u.ID, Err: errors.New("it has no phase")}
	}
	rest.ID, rest.Endpoint, rest.Image, rest.Key, rest.Labels = u.ID, u.Endpoint, u.Image, u.Key, u.Labels
	rest.Revision, rest.Since, rest.Created = u.Revision, u.Since, u.Created
	*u = rest
	return nil
}

// sealDevice returns the record column of a device.
func sealDevice(d *store.Device) ([]byte, error) {
	rest := *d
	rest.Endpoint, rest.Labels = "", nil
	rest.Registration.Updated, rest.Registration.LastSeen = time.Time{}, time.Time{}
	return seal(d.Endpoint, &rest)
}

// unsealDevice sets a device, which has its endpoint, to what the columns have. Of a damaged one it
// sets what is certain.
func unsealDevice(d *store.Device, data []byte, secured bool, updated, seen *time.Time) error {
	endpoint := d.Endpoint
	err := unseal(store.KindDevice, endpoint, data, d)
	d.Endpoint = endpoint
	d.Registration.Secured = d.Registration.Secured || secured
	if err == nil {
		d.Registration.Updated, d.Registration.LastSeen = timeOf(updated), timeOf(seen)
	}
	return err
}

func sealImage(i *store.Image) ([]byte, error) {
	rest := *i
	rest.ID = ""
	return seal(i.ID, &rest)
}

func unsealImage(id string, data []byte) (i store.Image, err error) {
	err = unseal(store.KindImage, id, data, &i)
	i.ID = id
	return i, err
}

// null returns a time for a column; a zero time is null.
func null(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// timeOf is the inverse of null.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// labelText returns labels for a column of type jsonb.
func labelText(labels map[string]string) string {
	if len(labels) == 0 {
		return "{}"
	}
	text, err := json.Marshal(labels)
	if err != nil {
		panic(err) // a map of texts is always JSON
	}
	return string(text)
}

// parseLabels is the inverse of labelText.
func parseLabels(text string) (labels map[string]string, err error) {
	if text == "{}" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &labels)
	return labels, err
}

// outcomeColumn returns the outcome for its column, which is null while an update is active.
func outcomeColumn(o fsm.Outcome) *string {
	if o == fsm.OutcomeNone {
		return nil
	}
	return new(string(o))
}

// endOf returns when an update ended, for its column, which is null while the update is active.
func endOf(u *store.Update) *time.Time {
	if u.Active() {
		return nil
	}
	return new(u.End())
}

// column returns text of a device as a column can have it, and people can read it. The record has
// the text itself.
func column(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// maybe returns the name of a value that may not be known.
func maybe[T fmt.Stringer](v *T) *string {
	if v == nil {
		return nil
	}
	return new((*v).String())
}
