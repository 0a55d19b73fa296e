package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// devicesRole configures a process of devices.
type devicesRole struct {
	Fleet       fleet
	First, Last int            // the devices in the range [First, Last)
	Local       netip.Addr     // their address
	Server      netip.AddrPort // address of the server
}

// downloaders is how many downloads a process makes concurrently.
const downloaders = 32

// world is the shared state of the devices in a process.
type world struct {
	role    devicesRole
	digests digests
	devices []*device

	live, silent                                           counter
	registers, updates, downloads, downloadsFailed, joined atomic.Uint64

	joining chan struct{} // a place for each device in its first registration
	all     chan struct{} // closed when all have registered
	jobs    chan download
	client  *http.Client
}

// joiners is how many devices register for the first time concurrently.
const joiners = 256

func newWorld(role devicesRole) *world {
	return &world{
		role:    role,
		digests: digests{size: role.Fleet.Size, known: map[string][sha256.Size]byte{}},
		joining: make(chan struct{}, joiners),
		all:     make(chan struct{}),
		jobs:    make(chan download, role.Last-role.First),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			DialContext:         (&net.Dialer{LocalAddr: &net.TCPAddr{IP: role.Local.AsSlice()}}).DialContext,
			MaxConnsPerHost:     downloaders,
			MaxIdleConnsPerHost: downloaders,
			DisableCompression:  true,
		}},
	}
}

// registerTime limits the time until all devices of a process have registered.
const registerTime = 10 * time.Minute

// runDevices runs a process of devices: it answers once all have registered, and then answers each
// command until ctx ends.
func runDevices(ctx context.Context, role devicesRole, c console) error {
	w := newWorld(role)
	defer w.close()
	if err := w.start(ctx); err != nil {
		return err
	}
	late := time.NewTimer(registerTime)
	defer late.Stop()
	select {
	case <-w.all:
	case <-ctx.Done():
		return nil
	case <-late.C:
		return fmt.Errorf("only %d of %d devices have registered after %s", w.joined.Load(), len(w.devices), registerTime)
	}
	for {
		if err := c.answers.Encode(w.report()); err != nil {
			return err
		}
		if _, ok := <-c.commands; !ok {
			return nil
		}
	}
}

// start opens the sockets and registers the devices, some at a time.
func (w *world) start(ctx context.Context) error {
	for i := w.role.First; i < w.role.Last; i++ {
		d := newDevice(w, i)
		if err := d.open(); err != nil {
			return fmt.Errorf("%s, the device number %d of this process: %w", d.endpoint, i-w.role.First+1, err)
		}
		w.devices = append(w.devices, d)
	}
	for range downloaders {
		go w.download(ctx)
	}
	go func() {
		for _, d := range w.devices {
			select {
			case w.joining <- struct{}{}:
				go d.run()
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}

// close closes the sockets, which ends the devices.
func (w *world) close() {
	for _, d := range w.devices {
		d.close()
	}
	w.client.CloseIdleConnections()
}

// registered records that a device has registered, for the first time or again.
func (w *world) registered(first bool) {
	w.registers.Add(1)
	if !first {
		return
	}
	<-w.joining
	if w.joined.Add(1) == uint64(w.role.Last-w.role.First) {
		close(w.all)
	}
}

// lost decides at random whether a datagram is lost.
func (w *world) lost() bool { return w.role.Fleet.Loss > 0 && rand.Float64() < w.role.Fleet.Loss }

// report returns the current counts.
func (w *world) report() devicesReport {
	versions := map[string]int{}
	for _, d := range w.devices {
		if d.kind != silent {
			versions[d.runs()]++
		}
	}
	return devicesReport{
		Live: w.live.traffic(), Silent: w.silent.traffic(), Versions: versions,
		Registers: w.registers.Load(), Updates: w.updates.Load(),
		Downloads: w.downloads.Load(), DownloadsFailed: w.downloadsFailed.Load(),
		CPU: cpuTime(), Sockets: len(w.devices),
	}
}
