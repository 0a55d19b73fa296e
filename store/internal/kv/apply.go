package kv

import (
	"bytes"
	"encoding/binary"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// apply applies the changes of one commit to the overlay. It returns the last sequence number of
// the journal.
func apply(o *overlay, changes []store.Change) (seq uint64, err error) {
	since := parseNumber(o.get(Meta, seqKey))
	for _, c := range changes {
		switch c := c.(type) {
		case *creation:
			err = createUpdate(o, &c.update, since)
		case *replacement:
			err = replaceUpdate(o, c)
		case store.DeleteUpdate:
			err = deleteUpdate(o, c)
		case store.AppendEvents:
			err = appendEvents(o, c.Events)
		case store.CreateImage:
			err = createImage(o, c.Image)
		case store.DeleteImage:
			err = deleteImage(o, c.ID)
		case store.PutRegistration:
			err = putRegistration(o, c.Endpoint, c.Registration)
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
		case store.PutFacts:
			err = putDevice(o, c.Endpoint, func(d *store.Device) { d.Facts = c.Facts })
		case store.PutLabels:
			if len(c.Labels) > 0 || o.has(devices, []byte(c.Endpoint)) {
				err = putDevice(o, c.Endpoint, func(d *store.Device) { d.Labels = c.Labels })
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
	return parseNumber(o.get(Meta, seqKey)), nil
}

func createUpdate(o *overlay, u *store.Update, since uint64) error {
	id := []byte(u.ID)
	if u.Key != "" {
		if other := o.get(updateKeys, []byte(u.Key)); other != nil {
			return &store.UpdateError{Err: store.ErrDuplicate, ID: string(other)}
		}
		if other := oldKey(o, u.Key, u.Created); other != "" {
			return &store.UpdateError{Err: store.ErrDuplicate, ID: other}
		}
		o.put(updateKeys, []byte(u.Key), id)
	}
	if o.has(updates, id) {
		return store.ErrExists
	}
	if !o.has(images, []byte(u.Image)) {
		return store.ErrNotFound
	}
	if u.Active() {
		if other := o.get(activeOf, []byte(u.Endpoint)); other != nil {
			return &store.UpdateError{Err: store.ErrActive, ID: string(other)}
		}
		o.put(active, id, mark)
		o.put(activeOf, []byte(u.Endpoint), id)
		o.put(activeImages, join(u.Image, u.ID), mark)
	} else {
		o.put(byOutcome, join(string(u.Machine.Outcome), u.ID), mark)
		o.put(byEnd, endKeyOf(u), mark)
	}
	o.put(byEndpoint, join(u.Endpoint, u.ID), mark)
	o.put(byImage, join(u.Image, u.ID), mark)
	for name, value := range u.Labels {
		o.put(byLabel, labelKey(name, value, u.ID), mark)
	}
	o.count(u.Image, u.Machine.Outcome, 1)
	u.Revision, u.Since = 1, since
	return updateKind.put(o, id, u)
}

// replaceUpdate decodes of the old record only the head, and at its end the fields that never
// change, unless the update had ended before.
func replaceUpdate(o *overlay, u *replacement) error {
	id := []byte(u.id)
	data := o.get(updates, id)
	if data == nil {
		return store.ErrNotFound
	}
	content, err := unseal(id, data)
	var head updateHead
	if err == nil {
		head, _, err = parseHead(content)
	}
	running := u.outcome == fsm.OutcomeNone
	old := &o.update
	switch {
	case err != nil || running:
	case head.active:
		err = updateCodec.Decode(head.fixed, old) // all that is needed of it
	default:
		err = parseUpdate(content, old)
	}
	if err != nil {
		return updateKind.damaged(id, err)
	}
	if head.revision != u.revision || running && !head.active {
		return store.ErrConflict
	}
	if !running && old.Machine.Outcome != u.outcome {
		if head.active {
			o.delete(active, id)
			o.delete(activeOf, []byte(old.Endpoint))
			o.delete(activeImages, join(old.Image, u.id))
		} else {
			o.delete(byOutcome, join(string(old.Machine.Outcome), u.id))
		}
		o.put(byOutcome, join(string(u.outcome), u.id), mark)
		o.count(old.Image, old.Machine.Outcome, -1)
		o.count(old.Image, u.outcome, 1)
	}
	if !running {
		before, now := endKey(old.Machine.Outcome, old.End(), u.id), endKey(u.outcome, u.end, u.id)
		if !head.active && !bytes.Equal(before, now) {
			o.delete(byEnd, before)
		}
		if head.active || !bytes.Equal(before, now) {
			o.put(byEnd, now, mark)
		}
	}
	b := appendRevision(append(o.buffer[:0], make([]byte, sealSize)...), u.revision+1, running)
	b = append(binary.AppendUvarint(b, uint64(len(head.fixed))), head.fixed...)
	o.buffer = append(b, u.changed...)
	seal(id, o.buffer)
	o.put(updates, id, bytes.Clone(o.buffer))
	return nil
}

func deleteUpdate(o *overlay, c store.DeleteUpdate) error {
	id := c.ID
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
	deleteJournal(o, []byte(id))
	if u.Key != "" {
		o.delete(updateKeys, []byte(u.Key))
		if !c.At.IsZero() {
			keepKey(o, u.Key, id, c.At)
		}
	}
	o.delete(byEndpoint, join(u.Endpoint, id))
	o.delete(byImage, join(u.Image, id))
	o.delete(byOutcome, join(string(u.Machine.Outcome), id))
	o.delete(byEnd, endKeyOf(&u))
	for name, value := range u.Labels {
		o.delete(byLabel, labelKey(name, value, id))
	}
	o.count(u.Image, u.Machine.Outcome, -1)
	o.delete(updates, []byte(id))
	return nil
}

// count changes how many updates to an image have an outcome.
func (o *overlay) count(image string, outcome fsm.Outcome, by int) {
	key := join(image, string(outcome))
	if n := int(parseNumber(o.get(counts, key))) + by; n > 0 {
		o.put(counts, key, number(uint64(n)))
	} else {
		o.delete(counts, key)
	}
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
	return imageKind.put(o, []byte(i.ID), &i)
}

func deleteImage(o *overlay, id string) error {
	data := o.get(images, []byte(id))
	if data == nil {
		return store.ErrNotFound
	}
	if key := o.first(activeImages, join(id, "")); key != nil {
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
