package firmware

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// unread is the queue of endpoints to read for the inventory, each once. It also counts the reads
// in progress with devices that answer, and keeps what was read until it is stored.
type unread struct {
	mu      sync.Mutex
	waiting []string
	queued  map[string]bool
	reading int
	read    []inventoryRead
	storing bool // a call of storeInventory is due or runs
}

// An inventoryRead is what was read of a device for the inventory.
type inventoryRead struct {
	endpoint string
	reading  fsm.Reading
	trial    trial
	facts    store.Facts // not Read if they were not read
	at       time.Time
	err      error
}

const (
	// inventoryPause is how long what was read is collected before it is stored.
	inventoryPause = time.Second
	// inventoryBatch is how many devices one commit stores.
	inventoryBatch = 256
	// maxInventory limits what waits to be stored. Beyond it, a device is read again when it
	// registers again.
	maxInventory = 65_536
)

// readSoon queues an endpoint to be read. The inventory has places of its own, so it does not delay
// updates.
func (m *Manager) readSoon(endpoint string) {
	q := &m.unread
	q.mu.Lock()
	if !q.queued[endpoint] {
		if q.queued == nil {
			q.queued = make(map[string]bool)
		}
		q.waiting, q.queued[endpoint] = append(q.waiting, endpoint), true
	}
	q.mu.Unlock()
	m.takeInventory(0)
}

// catchUp queues the devices that registered while no Run watched.
func (m *Manager) catchUp(ctx context.Context) {
	for d, err := range m.db.Devices(ctx, store.DeviceQuery{Registered: true}) {
		if errors.Is(err, store.ErrDamaged) {
			m.log.Error("record of a device cannot be read", "endpoint", d.Endpoint, "error", err)
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				m.log.Error("store cannot list the devices to read", "error", err)
			}
			return
		}
		unread := d.Facts.Read.IsZero() || d.Firmware.Read.Before(d.Registration.Registered)
		if unread && m.runOfEndpoint(d.Endpoint) == nil && m.owns(d.Endpoint) {
			m.readSoon(d.Endpoint)
		}
	}
}

// takeInventory begins to read queued endpoints, as far as there is room after ended reads have
// returned theirs.
func (m *Manager) takeInventory(ended int) {
	q := &m.unread
	q.mu.Lock()
	q.reading -= ended
	var next []string
	for len(q.waiting) > 0 && q.reading < m.config.Parallel {
		next = append(next, q.waiting[0])
		delete(q.queued, q.waiting[0])
		q.waiting = q.waiting[1:]
		q.reading++
	}
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.mu.Unlock()
	for _, endpoint := range next {
		m.inventory(endpoint, 0)
	}
}

// forgetUnread empties the queue; Run has ended.
func (m *Manager) forgetUnread() {
	q := &m.unread
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting, q.queued, q.read = nil, nil, nil
}

// An inventoryAction reads the firmware of a device. While the device is silent, its room goes to
// another one.
type inventoryAction struct {
	action
	r     fsm.Reading
	room  inventoryRoom
	tries int // how often the request could not be sent
}

// inventory reads the firmware of a device. tries counts how often the request could not be sent.
func (m *Manager) inventory(endpoint string, tries int) {
	a := &inventoryAction{action: action{m: m, endpoint: endpoint, lane: laneInventory}, room: inventoryRoom{m: m}, tries: tries}
	a.plan = a
	a.atEnd(a.room.leave)
	begin := func(ctx context.Context) {
		reg, ok := m.srv.Registration(endpoint)
		device, err := m.db.Device(ctx, endpoint)
		if a.device = factsOf(&device, reg, ok); err == nil && ok && mayAnswerComposite(reg) {
			a.composite = compositeOf(&device.Firmware)
		}
		a.begin()
	}
	if !m.enlist(begin) {
		m.forgetUnread()
	}
}

// start implements plan.
func (a *inventoryAction) start() {
	a.read(fsm.ReadState|fsm.ReadResult|fsm.ReadVersion|fsm.ReadProtocols|fsm.ReadDelivery|fsm.ReadDevice, &a.r, a.end)
}

// notice implements plan.
func (a *inventoryAction) notice(kind fsm.ObservationKind) {
	if kind == fsm.ObserveSilent {
		a.room.leave()
	}
}

// finish implements plan.
func (a *inventoryAction) finish(err error) {
	m := a.m
	if errors.Is(err, lwm2m.ErrUnreachable) && a.tries < 3 {
		// The server may still be opening its sockets.
		time.AfterFunc(time.Second<<a.tries, func() {
			if !m.spawn(func(context.Context) { m.inventory(a.endpoint, a.tries+1) }) {
				m.forgetUnread()
			}
		})
		return
	}
	m.keepInventory(inventoryRead{a.endpoint, a.r, a.trial, a.device.read, m.clock.now(), err})
}

// inventoryRoom is the room that one device takes while it is read.
type inventoryRoom struct {
	m    *Manager
	once sync.Once
}

func (r *inventoryRoom) leave() { r.once.Do(func() { go r.m.takeInventory(1) }) }

// keepInventory has what was read stored soon.
func (m *Manager) keepInventory(r inventoryRead) {
	q := &m.unread
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.read) >= maxInventory {
		return
	}
	if q.read = append(q.read, r); q.storing {
		return
	}
	q.storing = true
	time.AfterFunc(inventoryPause, func() {
		if !m.spawn(m.storeInventory) {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.read, q.storing = nil, false
		}
	})
}

// storeInventory stores what was read, many devices in one commit.
func (m *Manager) storeInventory(ctx context.Context) {
	q := &m.unread
	for {
		q.mu.Lock()
		batch := q.read[:min(len(q.read), inventoryBatch)]
		if q.read = q.read[len(batch):]; len(batch) == 0 || ctx.Err() != nil {
			q.read, q.storing = nil, false
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		err := m.commitInventory(ctx, batch)
		if err == nil || ctx.Err() != nil {
			continue
		}
		// One bad record must not cost the others theirs. A store that fails is not asked for each.
		for _, r := range batch {
			if err = m.commitInventory(ctx, []inventoryRead{r}); err != nil {
				m.log.Error("store refused what was read of a device", "endpoint", r.endpoint, "error", err)
				if !errors.Is(err, store.ErrInvalid) {
					break
				}
			}
		}
	}
}

// commitInventory stores what was read of some devices.
func (m *Manager) commitInventory(ctx context.Context, batch []inventoryRead) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	var changes []store.Change
	for _, r := range batch {
		if _, ok := m.srv.Registration(r.endpoint); !ok {
			continue // it was deleted
		}
		device, err := m.db.Device(ctx, r.endpoint)
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrDamaged) {
			return err
		}
		if !r.facts.Read.IsZero() {
			changes = append(changes, store.PutFacts{Endpoint: r.endpoint, Facts: r.facts})
		}
		facts, ok := firmwareFacts(r.reading, device.Firmware)
		if !ok && !r.facts.Read.IsZero() {
			continue // an update has read the facts, and learns the rest itself
		}
		if !ok {
			m.log.Debug("device does not report its firmware", "endpoint", r.endpoint, "error", r.err)
			continue
		}
		facts.Read = r.at
		if r.trial.done {
			facts.Composite = r.trial.answers
		}
		changes = append(changes, store.PutFirmware{Endpoint: r.endpoint, Firmware: facts})
		if holds := stillHolds(device.Firmware, facts, r.reading); holds != device.Firmware.Holds {
			changes = append(changes, store.PutHolds{Endpoint: r.endpoint, Holds: holds})
		}
	}
	if len(changes) == 0 {
		return nil
	}
	_, err := m.db.Commit(ctx, changes...)
	return err
}
