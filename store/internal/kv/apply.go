package kv

import (
	"encoding/binary"

	"github.com/otago-iot/otago/store"
)

// apply applies the changes of one commit to the overlay. It returns the last sequence number of
// the journal.
func apply(o *overlay, changes []store.Change) (seq uint64, err error) {
	since := parseNumber(o.get(Meta, []byte("seq")))
	for _, c := range changes {
		switch c := c.(type) {
		case store.CreateUpdate:
			err = createUpdate(o, c.Update, since)
		case store.ReplaceUpdate:
			err = replaceUpdate(o, c.Update)
		case store.DeleteUpdate:
			err = deleteUpdate(o, c.ID)
		case store.AppendEvents:
			err = appendEvents(o, c.Events)
		case store.CreateImage:
			err = createImage(o, c.Image)
		case store.DeleteImage:
			err = deleteImage(o, c.ID)
		case store.PutRegistration:
			err = putDevice(o, c.Endpoint, func(d *store.Device) {
				sticky := d.Registration.Secured || c.Registration.Secured
				d.Registration = c.Registration
				d.Registration.Secured = sticky
			})
		case store.PutFirmware:
			err = putDevice(o, c.Endpoint, func(d *store.Device) {
				holds := d.Firmware.Holds
				d.Firmware = c.Firmware
				d.Firmware.Holds = holds
			})
		case store.PutHolds:
			if c.Holds != "" || o.has(devices, []byte(c.Endpoint)) {
				err = putDevice(o, c.Endpoint, func(d *store.Device) { d.Firmware.Holds = c.Holds })
			}
		case store.DeleteDevice:
			err = deleteDevice(o, c.Endpoint)
		case store.RemoveDamaged:
			err = removeDamaged(o, c)
		}
		if err != nil {
			return 0, err
		}
	}
	return parseNumber(o.get(Meta, []byte("seq"))), nil
}

func (o *overlay) putRecord(t Table, key string, record any) error {
	data, err := encode(record)
	if err != nil {
		return err
	}
	o.put(t, []byte(key), data)
	return nil
}

func createUpdate(o *overlay, u store.Update, since uint64) error {
	if u.Key != "" {
		if id := o.get(updateKeys, []byte(u.Key)); id != nil {
			return &store.UpdateError{Err: store.ErrDuplicate, ID: string(id)}
		}
		o.put(updateKeys, []byte(u.Key), []byte(u.ID))
	}
	if o.has(updates, []byte(u.ID)) {
		return store.ErrExists
	}
	if !o.has(images, []byte(u.Image)) {
		return store.ErrNotFound
	}
	if u.Active() {
		if id := o.get(activeOf, []byte(u.Endpoint)); id != nil {
			return &store.UpdateError{Err: store.ErrActive, ID: string(id)}
		}
		o.put(active, []byte(u.ID), mark)
		o.put(activeOf, []byte(u.Endpoint), []byte(u.ID))
		o.put(activeImages, join(u.Image, u.ID), mark)
	}
	o.put(byEndpoint, join(u.Endpoint, u.ID), mark)
	o.put(byImage, join(u.Image, u.ID), mark)
	u.Revision, u.Since = 1, since
	return o.putRecord(updates, u.ID, u)
}

func replaceUpdate(o *overlay, u store.Update) error {
	data := o.get(updates, []byte(u.ID))
	if data == nil {
		return store.ErrNotFound
	}
	old, err := updateKind.decode([]byte(u.ID), data)
	if err != nil {
		return err
	}
	if old.Revision != u.Revision || u.Active() && !old.Active() {
		return store.ErrConflict
	}
	u.Endpoint, u.Image, u.Key, u.Labels = old.Endpoint, old.Image, old.Key, old.Labels
	u.Created, u.Since = old.Created, old.Since
	u.Revision++
	if old.Active() && !u.Active() {
		o.delete(active, []byte(u.ID))
		o.delete(activeOf, []byte(u.Endpoint))
		o.delete(activeImages, join(u.Image, u.ID))
	}
	return o.putRecord(updates, u.ID, u)
}

func deleteUpdate(o *overlay, id string) error {
	data := o.get(updates, []byte(id))
	if data == nil {
		return store.ErrNotFound
	}
	u, err := updateKind.decode([]byte(id), data)
	if err != nil {
		return err
	}
	if u.Active() {
		return &store.UpdateError{Err: store.ErrActive, ID: id}
	}
	deleteJournal(o, id)
	if u.Key != "" {
		o.delete(updateKeys, []byte(u.Key))
	}
	o.delete(byEndpoint, join(u.Endpoint, id))
	o.delete(byImage, join(u.Image, id))
	o.delete(updates, []byte(id))
	return nil
}

// deleteJournal removes the journal of an update, and reports whether it had lines.
func deleteJournal(o *overlay, id string) bool {
	lines := o.sweep(journal, join(id, ""), func(_, _ []byte) bool { return true })
	for _, line := range lines {
		o.delete(events, rest(line))
	}
	o.delete(journalSize, []byte(id))
	return len(lines) > 0
}

func appendEvents(o *overlay, lines []store.Event) error {
	seq := parseNumber(o.get(Meta, []byte("seq")))
	for _, e := range lines {
		if !o.has(updates, []byte(e.Update)) {
			return store.ErrNotFound
		}
		seq++
		e.Seq = seq
		data, err := encode(e)
		if err != nil {
			return err
		}
		o.put(events, number(seq), data)
		o.put(journal, join(e.Update, number(seq)), mark)
		trimJournal(o, e.Update, seq)
	}
	o.put(Meta, []byte("seq"), number(seq))
	return nil
}

// trimJournal counts a new line, and removes the oldest line after the head if there are too many.
func trimJournal(o *overlay, update string, seq uint64) {
	var size [16]byte // lines kept, seq of the last line of the head
	copy(size[:], o.get(journalSize, []byte(update)))
	kept, head := binary.BigEndian.Uint64(size[:8]), binary.BigEndian.Uint64(size[8:])
	kept++
	if kept <= store.JournalHead {
		head = seq
	}
	if kept > store.JournalHead+store.JournalTail {
		if key := o.first(journal, join(update, ""), join(update, number(head+1))); key != nil {
			o.delete(journal, key)
			o.delete(events, rest(key))
			kept--
		}
	}
	o.put(journalSize, []byte(update), append(number(kept), number(head)...))
}

func createImage(o *overlay, i store.Image) error {
	if o.has(images, []byte(i.ID)) {
		return store.ErrExists
	}
	version := join(i.Name, i.Version)
	if o.has(imageVersion, version) {
		return store.ErrVersionTaken
	}
	o.put(imageVersion, version, []byte(i.ID))
	o.put(imageDigest, join(i.SHA256, i.ID), mark)
	return o.putRecord(images, i.ID, i)
}

func deleteImage(o *overlay, id string) error {
	data := o.get(images, []byte(id))
	if data == nil {
		return store.ErrNotFound
	}
	if key := o.first(activeImages, join(id, ""), join(id, "")); key != nil {
		return &store.UpdateError{Err: store.ErrInUse, ID: string(rest(key))}
	}
	i, err := imageKind.decode([]byte(id), data)
	if err != nil {
		return err
	}
	o.delete(images, []byte(id))
	o.delete(imageVersion, join(i.Name, i.Version))
	o.delete(imageDigest, join(i.SHA256, i.ID))
	return nil
}

func putDevice(o *overlay, endpoint string, set func(*store.Device)) error {
	d := store.Device{Endpoint: endpoint}
	if data := o.get(devices, []byte(endpoint)); data != nil {
		d, _ = deviceKind.decode([]byte(endpoint), data) // PutRegistration and PutFirmware replace a damaged record
	}
	d.Registration.Secured = d.Registration.Secured || o.has(secured, []byte(endpoint))
	set(&d)
	if d.Registration.Secured {
		o.put(secured, []byte(endpoint), mark)
	}
	return o.putRecord(devices, endpoint, d)
}

func deleteDevice(o *overlay, endpoint string) error {
	if id := o.get(activeOf, []byte(endpoint)); id != nil {
		return &store.UpdateError{Err: store.ErrActive, ID: string(id)}
	}
	if !o.has(devices, []byte(endpoint)) {
		return store.ErrNotFound
	}
	o.delete(devices, []byte(endpoint))
	o.delete(secured, []byte(endpoint))
	return nil
}
