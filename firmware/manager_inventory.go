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

// unread holds the endpoints that are to be read for the inventory, each once however often it registers, and how many
// goroutines are at it.
type unread struct {
	mu      sync.Mutex
	waiting []string
	queued  map[string]bool
	readers int
}

// inventoryTimeout bounds the reading of a device that has just registered.
const inventoryTimeout = 2 * time.Minute

// readSoon has what an endpoint runs read. Updates go before: the inventory takes a quarter of the requests at most.
func (m *Manager) readSoon(endpoint string) {
	q := &m.unread
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queued[endpoint] {
		return
	}
	if q.queued == nil {
		q.queued = make(map[string]bool)
	}
	q.waiting, q.queued[endpoint] = append(q.waiting, endpoint), true
	if q.readers < max(1, m.cfg.Parallel/4) && m.spawn(m.takeInventory) {
		q.readers++
	}
}

// catchUp has those read who registered when nobody watched: the server may have served before Run, or ended in between.
func (m *Manager) catchUp(ctx context.Context) {
	for d, err := range m.db.Devices(ctx, store.DeviceQuery{Registered: true}) {
		if errors.Is(err, store.ErrDamaged) {
			m.log.Error("what is known of a device cannot be read", "endpoint", d.Endpoint, "error", err)
			continue
		}
		if err != nil {
			if ctx.Err() == nil {
				m.log.Error("store does not tell which devices are to be read", "error", err)
			}
			return
		}
		if d.Firmware.Read.Before(d.Registration.Registered) && m.driveOf(d.Endpoint) == nil {
			m.readSoon(d.Endpoint)
		}
	}
}

// takeInventory reads endpoints until none waits, or Run ends, which forgets them.
func (m *Manager) takeInventory(ctx context.Context) {
	q := &m.unread
	for {
		q.mu.Lock()
		if ctx.Err() != nil {
			q.waiting, q.queued = nil, nil
		}
		if len(q.waiting) == 0 {
			q.waiting = nil
			q.readers--
			q.mu.Unlock()
			return
		}
		endpoint := q.waiting[0]
		q.waiting = q.waiting[1:]
		delete(q.queued, endpoint)
		q.mu.Unlock()
		m.inventory(ctx, endpoint)
	}
}

// inventory reads what a device runs.
func (m *Manager) inventory(ctx context.Context, endpoint string) {
	ctx, cancel := context.WithTimeout(ctx, inventoryTimeout)
	defer cancel()
	reading, err := m.readForInventory(ctx, endpoint)
	for pause := time.Second; errors.Is(err, lwm2m.ErrUnreachable) && pause <= 4*time.Second; pause *= 2 {
		// The server may only be about to open its sockets.
		select {
		case <-time.After(pause):
			reading, err = m.readForInventory(ctx, endpoint)
		case <-ctx.Done():
			return
		}
	}
	device, storeErr := m.db.Device(ctx, endpoint)
	if storeErr == nil || errors.Is(storeErr, store.ErrNotFound) || errors.Is(storeErr, store.ErrDamaged) {
		facts, ok := firmwareFacts(reading, device.Firmware)
		if !ok {
			m.log.Debug("a device does not tell about its firmware", "endpoint", endpoint, "error", err)
			return
		}
		facts.Read = time.Now()
		_, storeErr = m.db.Commit(ctx, store.PutFirmware{Endpoint: endpoint, Firmware: facts})
	}
	if storeErr != nil && !errors.Is(storeErr, context.Canceled) {
		m.log.Error("store fails what a device runs", "endpoint", endpoint, "error", storeErr)
	}
}

func (m *Manager) readForInventory(ctx context.Context, endpoint string) (fsm.Reading, error) {
	select {
	case m.slots <- struct{}{}:
		defer func() { <-m.slots }()
	case <-ctx.Done():
		return fsm.Reading{}, ctx.Err()
	}
	return m.read(ctx, endpoint, fsm.ReadState|fsm.ReadResult|fsm.ReadVersion|fsm.ReadProtocols|fsm.ReadDelivery)
}
