package postgres

import (
	"bytes"
	"maps"
	"strconv"

	"github.com/otago-iot/otago/store"
)

// putRegistration sets a registration. One that only has new times leaves the record as it is: most
// of what a server stores of its devices are renewals.
func (w *work) putRegistration(endpoint string, r store.RegistrationRecord) {
	w.putDevice(endpoint, func(d *store.Device) { d.Registration = r })
}

// putDevice changes a record, or makes one. Of a damaged one only what stands beside it stays.
func (w *work) putDevice(endpoint string, set func(*store.Device)) {
	row := w.devices[endpoint]
	old, oldFacts, live := row.device, row.facts, row.live
	row.live, row.device.Endpoint = true, endpoint
	set(&row.device)
	row.device.Registration.Secured = row.device.Registration.Secured || old.Registration.Secured
	data, err := sealDevice(&row.device)
	if err != nil {
		panic(err) // Normalize has refused what cannot be encoded
	}
	labels := !maps.Equal(old.Labels, row.device.Labels)
	row.changed = row.changed || labels || !bytes.Equal(data, row.record)
	row.renewed = true
	row.record, row.damaged, row.facts = data, nil, factsOf(&row.device)
	if !live || labels || row.facts != oldFacts {
		if live {
			w.countDevice(&oldFacts, old.Labels, -1)
		}
		w.countDevice(&row.facts, row.device.Labels, 1)
	}
	put(w, w.devices, endpoint, row)
}

func (w *work) deleteDevice(endpoint string) error {
	if id := w.active[endpoint]; id != "" {
		return &store.UpdateError{Err: store.ErrActive, ID: id}
	}
	row := w.devices[endpoint]
	if !row.live {
		return store.ErrNotFound
	}
	w.removeDevice(endpoint, row)
	return nil
}

func (w *work) removeDevice(endpoint string, row deviceRow) {
	w.countDevice(&row.facts, row.device.Labels, -1)
	put(w, w.devices, endpoint, deviceRow{stored: row.stored, labels: row.labels})
}

func (w *work) removeDamaged(c store.RemoveDamaged) error {
	switch c.Kind {
	case store.KindUpdate:
		row := w.updates[c.Key]
		if err := removable(row.live, row.damaged); err != nil {
			return err
		}
		w.removeUpdate(c.Key, row)
	case store.KindImage:
		row := w.images[c.Key]
		if err := removable(row.live, row.damaged); err != nil {
			return err
		}
		if user := w.userOf(c.Key); user != "" {
			return &store.UpdateError{Err: store.ErrInUse, ID: user}
		}
		w.removeImage(c.Key, row)
	case store.KindDevice:
		row := w.devices[c.Key]
		if err := removable(row.live, row.damaged); err != nil {
			return err
		}
		beside := row.device
		w.removeDevice(c.Key, row)
		if beside.Registration.Secured || len(beside.Labels) > 0 {
			w.putDevice(c.Key, func(d *store.Device) { *d = beside })
		}
	case store.KindEvent:
		seq, _ := strconv.ParseUint(c.Key, 10, 64) // Normalize has checked it
		line := w.lines[seq]
		if err := removable(line.live, line.damaged); err != nil {
			return err
		}
		put(w, w.lines, seq, lineRow{update: line.update})
		if row := w.updates[line.update]; row.live {
			row.lines--
			put(w, w.updates, line.update, row)
		}
	}
	return nil
}

// removable returns why RemoveDamaged refuses a record.
func removable(live bool, damaged error) error {
	switch {
	case !live:
		return store.ErrNotFound
	case damaged == nil:
		return store.ErrNotDamaged
	}
	return nil
}
