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
// in progress with devices that answer.
type unread struct {
	mu      sync.Mutex
	waiting []string
	queued  map[string]bool
	reading int
}

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
		if d.Firmware.Read.Before(d.Registration.Registered) && m.runOfEndpoint(d.Endpoint) == nil && m.owns(d.Endpoint) {
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
	q.waiting, q.queued = nil, nil
}

// inventory reads the firmware of a device. tries counts how often the request could not be sent.
func (m *Manager) inventory(endpoint string, tries int) {
	var r fsm.Reading
	const what = fsm.ReadState | fsm.ReadResult | fsm.ReadVersion | fsm.ReadProtocols | fsm.ReadDelivery
	e := &action{m: m, endpoint: endpoint, lane: laneInventory}
	// While the device is silent, its room goes to another one.
	room := &inventoryRoom{m: m}
	e.run = func(e *action) { e.read(what, &r, e.end) }
	e.notice = func(kind fsm.ObservationKind) {
		switch kind {
		case fsm.ObserveSilent:
			room.leave()
		}
	}
	e.finish = func(err error) {
		if errors.Is(err, lwm2m.ErrUnreachable) && tries < 3 {
			// The server may still be opening its sockets.
			time.AfterFunc(time.Second<<tries, func() {
				if !m.spawn(func(context.Context) { m.inventory(endpoint, tries+1) }) {
					m.forgetUnread()
				}
			})
			return
		}
		if !m.enlist(func(ctx context.Context) { m.keepInventory(ctx, endpoint, r, err) }) {
			m.forgetUnread()
		}
	}
	e.atEnd(room.leave)
	e.begin()
}

// inventoryRoom is the room that one device takes while it is read.
type inventoryRoom struct {
	m    *Manager
	once sync.Once
}

func (r *inventoryRoom) leave() { r.once.Do(func() { go r.m.takeInventory(1) }) }

// keepInventory stores what was read.
func (m *Manager) keepInventory(ctx context.Context, endpoint string, r fsm.Reading, cause error) {
	if _, ok := m.srv.Registration(endpoint); !ok {
		return // it was deleted
	}
	device, err := m.db.Device(ctx, endpoint)
	if err == nil || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) {
		facts, ok := firmwareFacts(r, device.Firmware)
		if !ok {
			m.log.Debug("device does not report its firmware", "endpoint", endpoint, "error", cause)
			return
		}
		facts.Read = m.clock.now()
		changes := []store.Change{store.PutFirmware{Endpoint: endpoint, Firmware: facts}}
		if holds := stillHolds(device.Firmware, facts, r); holds != device.Firmware.Holds {
			changes = append(changes, store.PutHolds{Endpoint: endpoint, Holds: holds})
		}
		_, err = m.db.Commit(ctx, changes...)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		m.log.Error("store refused what was read of a device", "endpoint", endpoint, "error", err)
	}
}
