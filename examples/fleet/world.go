package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// devicesRole configures the process of the devices.
type devicesRole struct {
	Fleet  fleet
	Server netip.AddrPort // address of the server
}

// downloaders is how many downloads there are concurrently.
const downloaders = 64

// world is the shared state of the devices.
type world struct {
	role    devicesRole
	begin   time.Time
	digests digests
	shards  []*shard

	transferring, installing                               crowd
	live, silent                                           counter
	registers, updates, downloads, downloadsFailed, joined atomic.Uint64

	joining chan struct{} // a place for each device in its first registration
	all     chan struct{} // closed when all have registered
	jobs    chan download

	mu       sync.Mutex
	installs map[string]uint64 // by version
}

// joiners is how many devices register for the first time concurrently.
const joiners = 256

// newWorld opens the ports, and makes the devices.
func newWorld(role devicesRole) (*world, error) {
	w := &world{
		role:     role,
		begin:    time.Now().Add(-time.Nanosecond), // so that no time is 0
		digests:  digests{size: role.Fleet.Size, known: map[string][sha256.Size]byte{}},
		joining:  make(chan struct{}, joiners),
		all:      make(chan struct{}),
		jobs:     make(chan download, role.Fleet.Devices),
		installs: map[string]uint64{},
	}
	if role.Fleet.AtOnce {
		w.joining = make(chan struct{}, role.Fleet.Devices)
	}
	n := min(runtime.GOMAXPROCS(0), role.Fleet.Devices)
	for i := range n {
		port, err := openPort(role.Server)
		if err != nil {
			w.close()
			return nil, err
		}
		s := &shard{w: w, index: i, port: port, payloads: map[payloadKey][]byte{}}
		s.devices = make([]device, 0, role.Fleet.Devices/n+1)
		for number := i; number < role.Fleet.Devices; number += n {
			s.devices = append(s.devices, device{
				s: s, number: uint32(number), kind: role.Fleet.kind(number),
				state: uint8(fsm.Idle), id: uint16(rand.Uint32()), moved: number%2 == 0,
			})
		}
		w.shards = append(w.shards, s)
	}
	return w, nil
}

// now returns the time of the world, in nanoseconds.
func (w *world) now() int64 { return int64(time.Since(w.begin)) }

// registerTime limits the time until n devices have registered.
func registerTime(n int) time.Duration { return 10*time.Minute + time.Duration(n)*2*time.Millisecond }

// runDevices runs the process of the devices: it answers once all have registered, and then answers
// each command until ctx ends.
func runDevices(ctx context.Context, role devicesRole, c console) error {
	w, err := newWorld(role)
	if err != nil {
		return err
	}
	defer w.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.start(ctx)
	limit := registerTime(role.Fleet.Devices)
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-w.all:
	case <-ctx.Done():
		return nil
	case <-late.C:
		return fmt.Errorf("only %d of %d devices have registered after %s", w.joined.Load(), role.Fleet.Devices, limit)
	}
	if err := c.answers.Encode(w.report()); err != nil {
		return err
	}
	for cmd := range c.commands {
		var report any = w.report()
		switch {
		case cmd.Refresh:
			report = w.refresh(ctx)
		case cmd.Acts:
			report = w.acts()
		}
		if err := c.answers.Encode(report); err != nil {
			return err
		}
	}
	return nil
}

// start registers the devices, some at a time unless they all come at once.
func (w *world) start(ctx context.Context) {
	for _, s := range w.shards {
		go s.read()
		go s.tick(ctx)
	}
	for range downloaders {
		go w.download(ctx)
	}
	go func() {
		for i := range w.role.Fleet.Devices {
			select {
			case w.joining <- struct{}{}:
			case <-ctx.Done():
				return
			}
			s := w.shards[i%len(w.shards)]
			s.mu.Lock()
			s.devices[i/len(w.shards)].report(w.now())
			s.mu.Unlock()
		}
	}()
}

// close closes the ports.
func (w *world) close() {
	for _, s := range w.shards {
		s.port.close()
	}
}

// registered records that a device has registered, for the first time or again.
func (w *world) registered(first bool) {
	w.registers.Add(1)
	if !first {
		return
	}
	<-w.joining
	if w.joined.Add(1) == uint64(w.role.Fleet.Devices) {
		close(w.all)
	}
}

// installed records that a device runs a version for the first time.
func (w *world) installed(d *device) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.installs[versionOf(int(d.version))]++
}

// lost decides at random whether a datagram is lost.
func (w *world) lost() bool { return w.role.Fleet.Loss > 0 && rand.Float64() < w.role.Fleet.Loss }

// report returns the current counts.
func (w *world) report() devicesReport {
	r := devicesReport{
		Live: w.live.traffic(), Silent: w.silent.traffic(), Versions: map[string]int{}, Installs: map[string]uint64{},
		Registers: w.registers.Load(), Updates: w.updates.Load(),
		Downloads: w.downloads.Load(), DownloadsFailed: w.downloadsFailed.Load(), CPU: cpuTime(),
	}
	for _, s := range w.shards {
		r.Dropped += dropped(s.port.number())
		s.mu.Lock()
		for i := range s.devices {
			if d := &s.devices[i]; d.kind.succeeds() {
				r.Versions[versionOf(int(d.version))]++
			}
		}
		s.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(r.Installs, w.installs)
	return r
}
