package postgres

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
)

// A work is what a transaction needs in memory: the rows that its commits may touch, as they are in
// the database, and what the commits make of them.
type work struct {
	updates  map[string]updateRow
	active   map[string]string // endpoint -> id of its active update, or ""
	keys     map[string]string // idempotency key -> id of its update, or ""
	oldKeys  map[string]oldKey
	images   map[string]imageRow
	versions map[imageVersion]string // id of the image, or ""
	inUse    map[string]string       // image -> an active update that is not in updates, or ""
	devices  map[string]deviceRow
	lines    map[uint64]lineRow // of RemoveDamaged
	rollouts map[string]rolloutRow
	members  map[memberKey]store.Member

	counts       map[countKey]int
	deviceCounts map[deviceFact]int
	freed        []time.Time // the keys of removed updates whose time has come by then are free
	events       []event

	rolloutEvents []store.RolloutEvent

	seq  uint64   // number of the journal's last line when the transaction began
	undo []func() // what the commit that is applied has changed, in order
}

type imageVersion struct{ name, version string }

type memberKey struct{ rollout, endpoint string }

type countKey struct {
	image   string
	outcome fsm.Outcome
}

// An updateRow is a row of firmware_updates. Zero means that there is none.
type updateRow struct {
	stored bool // the database has a row
	live   bool // there is such an update
	remade bool // it replaces the one of the stored row, which was deleted

	endpoint, image, key string
	outcome              fsm.Outcome
	revision             uint64
	lines                int   // of its journal
	damaged              error // why the record cannot be read

	added int            // lines that were appended
	made  *store.Update  // of an update that was created
	since int            // lines of the transaction before it was created
	cells *updateColumns // if they change
}

type oldKey struct {
	id      string
	until   time.Time
	changed bool // an empty id: it was freed
}

type imageRow struct {
	stored, live, remade bool
	image                store.Image
	damaged              error
}

// A deviceRow is a row of devices. Of a damaged record the device has what stands beside it: its
// labels, and whether it is Secured.
type deviceRow struct {
	stored, live bool
	device       store.Device
	record       []byte
	damaged      error
	facts        facts             // of the columns
	labels       map[string]string // of the stored row
	changed      bool              // more than the times of the registration
	renewed      bool              // these
}

// A deviceFact is what an index finds devices by.
type deviceFact struct{ fact, value string }

// Facts are the columns of a device that have an index.
type facts struct{ version, manufacturer, model, hardware string }

func factsOf(d *store.Device) facts {
	return facts{d.Firmware.Version, d.Facts.Manufacturer, d.Facts.Model, d.Facts.Hardware}
}

type lineRow struct {
	update  string
	live    bool
	damaged error
}

type rolloutRow struct {
	stored, live bool
	rollout      store.Rollout
	damaged      error
	changed      bool
	records      int // of its members and lines, as far as a DeleteRollout needs it
	remove       int // how many of them go
}

// An event is a line of the journal.
type event struct {
	store.Event
	dropped bool // its update was deleted after it
}

func newWork() *work {
	return &work{
		updates: map[string]updateRow{}, active: map[string]string{}, keys: map[string]string{}, oldKeys: map[string]oldKey{},
		images: map[string]imageRow{}, versions: map[imageVersion]string{}, inUse: map[string]string{}, devices: map[string]deviceRow{},
		lines: map[uint64]lineRow{}, rollouts: map[string]rolloutRow{}, members: map[memberKey]store.Member{}, counts: map[countKey]int{},
		deviceCounts: map[deviceFact]int{},
	}
}

// put changes an entry of a map of the work, until undone.
func put[K comparable, V any](w *work, m map[K]V, key K, value V) {
	old, had := m[key]
	w.undo = append(w.undo, func() {
		if had {
			m[key] = old
		} else {
			delete(m, key)
		}
	})
	m[key] = value
}

// begin starts a commit.
func (w *work) begin() { w.undo = w.undo[:0] }

// rollback undoes what the commit has changed.
func (w *work) rollback() {
	for i := len(w.undo) - 1; i >= 0; i-- {
		w.undo[i]()
	}
}

// count changes how many updates to an image have an outcome.
func (w *work) count(image string, outcome fsm.Outcome, by int) {
	key := countKey{image, outcome}
	put(w, w.counts, key, w.counts[key]+by)
}

// countDevice counts a device with facts and labels, once more or once less.
func (w *work) countDevice(f *facts, labels map[string]string, by int) {
	add := func(fact, value string) {
		key := deviceFact{fact, value}
		put(w, w.deviceCounts, key, w.deviceCounts[key]+by)
	}
	add("", "")
	for _, fact := range []deviceFact{
		{factVersion, f.version}, {factManufacturer, f.manufacturer}, {factModel, f.model}, {factHardware, f.hardware},
	} {
		if fact.value != "" {
			add("", fact.fact)
			add(fact.fact, fact.value)
		}
	}
	for name, value := range labels {
		add(factLabel+name, value)
	}
}

// The facts of device_counts. Those that are no labels are columns, too.
const (
	factVersion      = "version"
	factManufacturer = "manufacturer"
	factModel        = "model"
	factHardware     = "hardware"
	factLabel        = "label " // and the name
)

// appendEvent appends a line to the journal of all updates.
func (w *work) appendEvent(e store.Event) {
	n := len(w.events)
	w.undo = append(w.undo, func() { w.events = w.events[:n] })
	w.events = append(w.events, event{Event: e})
}

// dropEvents takes the lines of an update, which is deleted, out of the transaction. Their numbers
// stay used.
func (w *work) dropEvents(update string) {
	for i := range w.events {
		if e := &w.events[i]; e.Update == update && !e.dropped {
			e.dropped = true
			w.undo = append(w.undo, func() { e.dropped = false })
		}
	}
}
