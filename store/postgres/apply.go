package postgres

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A created is a store.CreateUpdate, and a replaced a store.ReplaceUpdate, whose columns are made.
type (
	created struct {
		store.Change // nil: it makes this one
		update       store.Update
		cells        *updateColumns
	}
	replaced struct {
		store.Change
		id       string
		revision uint64
		cells    *updateColumns
	}
)

// prepare returns a change as Normalize leaves it. An update is encoded here, so that callers at
// once do that at once.
func prepare(c store.Change) (store.Change, error) {
	switch c := c.(type) {
	case store.CreateUpdate:
		n, err := store.Normalize(c)
		if err != nil {
			return nil, err
		}
		u := n.(store.CreateUpdate).Update
		cells, err := columnsOf(&u)
		return &created{update: u, cells: cells}, err
	case store.ReplaceUpdate:
		u := c.Update
		if err := u.Normalize(); err != nil {
			return nil, err
		}
		cells, err := columnsOf(&u)
		return &replaced{id: u.ID, revision: u.Revision, cells: cells}, err
	}
	return store.Normalize(c)
}

// apply applies the changes of one commit, or none of them. It returns how many lines the
// transaction then has.
func (w *work) apply(c *commit) (lines int, err error) {
	w.begin()
	since := len(w.events)
	for _, change := range c.changes {
		if err = w.change(change, since); err != nil {
			break
		}
	}
	for _, change := range c.rollouts {
		if err != nil {
			break
		}
		err = w.rolloutChange(change)
	}
	if err != nil {
		w.rollback()
		return 0, err
	}
	return len(w.events), nil
}

func (w *work) change(c store.Change, since int) error {
	switch c := c.(type) {
	case *created:
		return w.createUpdate(c, since)
	case *replaced:
		return w.replaceUpdate(c)
	case store.DeleteUpdate:
		return w.deleteUpdate(c)
	case store.AppendEvents:
		return w.appendEvents(c.Events)
	case store.CreateImage:
		return w.createImage(c.Image)
	case store.DeleteImage:
		return w.deleteImage(c.ID)
	case store.PutRegistration:
		w.putRegistration(c.Endpoint, c.Registration)
	case store.PutFirmware:
		w.putDevice(c.Endpoint, func(d *store.Device) {
			holds := d.Firmware.Holds
			d.Firmware = c.Firmware
			d.Firmware.Holds = holds
		})
	case store.PutHolds:
		if c.Holds != "" || w.devices[c.Endpoint].live {
			w.putDevice(c.Endpoint, func(d *store.Device) { d.Firmware.Holds = c.Holds })
		}
	case store.PutFacts:
		w.putDevice(c.Endpoint, func(d *store.Device) { d.Facts = c.Facts })
	case store.PutLabels:
		if len(c.Labels) > 0 || w.devices[c.Endpoint].live {
			w.putDevice(c.Endpoint, func(d *store.Device) { d.Labels = c.Labels })
		}
	case store.DeleteDevice:
		return w.deleteDevice(c.Endpoint)
	case store.RemoveDamaged:
		return w.removeDamaged(c)
	}
	return nil
}

func (w *work) createUpdate(c *created, since int) error {
	u := &c.update
	if u.Key != "" {
		if other := w.keys[u.Key]; other != "" {
			return &store.UpdateError{Err: store.ErrDuplicate, ID: other}
		}
		if old := w.oldKeys[u.Key]; old.id != "" {
			if old.until.After(u.Created) {
				return &store.UpdateError{Err: store.ErrDuplicate, ID: old.id}
			}
			put(w, w.oldKeys, u.Key, oldKey{changed: true})
		}
		put(w, w.keys, u.Key, u.ID)
	}
	row := w.updates[u.ID]
	if row.live {
		return store.ErrExists
	}
	if !w.images[u.Image].live {
		return store.ErrNotFound
	}
	if u.Active() {
		if other := w.active[u.Endpoint]; other != "" {
			return &store.UpdateError{Err: store.ErrActive, ID: other}
		}
		put(w, w.active, u.Endpoint, u.ID)
	}
	w.count(u.Image, u.Outcome(), 1)
	put(w, w.updates, u.ID, updateRow{
		stored: row.stored, live: true, remade: row.stored,
		endpoint: u.Endpoint, image: u.Image, key: u.Key, outcome: u.Outcome(), revision: 1, made: u, since: since, cells: c.cells,
	})
	return nil
}

func (w *work) replaceUpdate(c *replaced) error {
	row := w.updates[c.id]
	switch {
	case !row.live:
		return store.ErrNotFound
	case row.damaged != nil:
		return row.damaged
	case row.revision != c.revision, c.cells.outcome == fsm.OutcomeNone && row.outcome != fsm.OutcomeNone:
		return store.ErrConflict
	}
	if c.cells.outcome != row.outcome {
		if row.outcome == fsm.OutcomeNone {
			put(w, w.active, row.endpoint, "")
		}
		w.count(row.image, row.outcome, -1)
		w.count(row.image, c.cells.outcome, 1)
	}
	row.revision++
	row.outcome, row.cells = c.cells.outcome, c.cells
	put(w, w.updates, c.id, row)
	return nil
}

func (w *work) deleteUpdate(c store.DeleteUpdate) error {
	row := w.updates[c.ID]
	switch {
	case !row.live:
		return store.ErrNotFound
	case row.damaged != nil:
		return row.damaged
	case row.outcome == fsm.OutcomeNone:
		return &store.UpdateError{Err: store.ErrActive, ID: c.ID}
	}
	w.removeUpdate(c.ID, row)
	if row.key != "" && !c.At.IsZero() {
		put(w, w.oldKeys, row.key, oldKey{id: c.ID, until: c.At.Add(store.KeyRest), changed: true})
		n := len(w.freed)
		w.undo = append(w.undo, func() { w.freed = w.freed[:n] })
		w.freed = append(w.freed, c.At)
	}
	return nil
}

// removeUpdate removes an update and its journal.
func (w *work) removeUpdate(id string, row updateRow) {
	w.dropEvents(id)
	if row.key != "" {
		put(w, w.keys, row.key, "")
	}
	if row.outcome == fsm.OutcomeNone {
		put(w, w.active, row.endpoint, "")
	}
	w.count(row.image, row.outcome, -1)
	put(w, w.updates, id, updateRow{stored: row.stored})
}

func (w *work) appendEvents(events []store.Event) error {
	for _, e := range events {
		row := w.updates[e.Update]
		if !row.live {
			return store.ErrNotFound
		}
		row.lines++
		row.added++
		put(w, w.updates, e.Update, row)
		w.appendEvent(e)
	}
	return nil
}

func (w *work) createImage(i store.Image) error {
	row, version := w.images[i.ID], imageVersion{i.Name, i.Version}
	if row.live {
		return store.ErrExists
	}
	if w.versions[version] != "" {
		return store.ErrVersionTaken
	}
	put(w, w.versions, version, i.ID)
	put(w, w.images, i.ID, imageRow{stored: row.stored, live: true, remade: true, image: i})
	return nil
}

func (w *work) deleteImage(id string) error {
	row := w.images[id]
	if !row.live {
		return store.ErrNotFound
	}
	if user := w.userOf(id); user != "" {
		return &store.UpdateError{Err: store.ErrInUse, ID: user}
	}
	if row.damaged != nil {
		return row.damaged
	}
	w.removeImage(id, row)
	return nil
}

// userOf returns an active update that needs an image, or "".
func (w *work) userOf(image string) string {
	for id, row := range w.updates {
		if row.live && row.outcome == fsm.OutcomeNone && row.image == image {
			return id
		}
	}
	return w.inUse[image]
}

func (w *work) removeImage(id string, row imageRow) {
	put(w, w.versions, imageVersion{row.image.Name, row.image.Version}, "")
	put(w, w.images, id, imageRow{stored: row.stored})
}

// updateColumns are the columns of an update that its steps change.
type updateColumns struct {
	version, state, result string
	outcome                fsm.Outcome
	reason, phase          string
	waiting, whose         string
	until                  *time.Time
	bytes, size            int64
	attempt                int32
	oldVersion, later      string
	changed, ended         *time.Time
	record                 []byte
}

func columnsOf(u *store.Update) (*updateColumns, error) {
	record, err := sealUpdate(u)
	if err != nil {
		return nil, err
	}
	m := &u.Machine
	return &updateColumns{
		version: column(m.Plan.Target), state: m.State.String(), result: m.Result.String(), outcome: m.Outcome, reason: column(string(m.Reason)),
		phase: string(m.Phase), waiting: column(m.Wait.Reason), whose: string(m.Wait.Whose), until: null(m.Wait.Until), bytes: m.Bytes, size: m.Plan.Size,
		attempt: int32(min(max(m.Attempt, 0), 1<<31-1)), oldVersion: column(m.OldVersion), later: column(u.Later.Version), changed: null(u.Changed), ended: endOf(u), record: record,
	}, nil
}
