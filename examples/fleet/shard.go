package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// shard holds some devices of a world, and the port by which they talk.
type shard struct {
	w     *world
	index int // in w.shards
	port  *port

	mu       sync.Mutex
	devices  []device
	timers   timers
	payloads map[payloadKey][]byte // of answers
}

// firstAddress is the lowest address of a device. The server has 127.0.0.1.
const firstAddress = 127<<24 | 1<<16

// maxDevices is how many devices have addresses.
const maxDevices = 128<<24 - 1 - firstAddress

// tickTime is how exact timers are.
const tickTime = 5 * time.Millisecond

// address returns the current address of device i of the fleet. A device that moves takes the next
// one of those that are its own.
func (w *world) address(i int, moves uint8) uint32 {
	n := w.role.Fleet.Devices
	return firstAddress + uint32(int(moves)%max(1, min(256, maxDevices/n))*n+i)
}

// device returns the device that has or had an address, or nil.
func (s *shard) device(address uint32) *device {
	if address < firstAddress {
		return nil
	}
	i := int(address-firstAddress) % s.w.role.Fleet.Devices
	if n := len(s.w.shards); i%n != s.index || i/n >= len(s.devices) {
		return nil
	}
	d := &s.devices[i/len(s.w.shards)]
	if s.w.address(i, d.moves) != address {
		return nil
	}
	return d
}

// read takes datagrams until the port is closed.
func (s *shard) read() {
	buf := make([]byte, maxDatagram)
	for {
		n, to, err := s.port.read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		s.mu.Lock()
		if d := s.device(to); d != nil && n > 0 {
			d.receive(buf[:n], s.w.now())
		}
		s.mu.Unlock()
	}
}

// tick handles timers until ctx ends.
func (s *shard) tick(ctx context.Context) {
	ticker := time.NewTicker(tickTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		for now := s.w.now(); len(s.timers) > 0 && s.timers[0].due <= now; {
			t := s.timers.pop()
			if d := &s.devices[t.device]; d.timer == t.due {
				d.timer = 0
				d.tick(now)
				d.arm()
			}
		}
		s.mu.Unlock()
	}
}

// timer is when a device has something to do.
type timer struct {
	due    int64 // time of the world
	device uint32
}

// timers is a heap. Timers that were put off stay in it until they are due.
type timers []timer

func (t *timers) push(n timer) {
	*t = append(*t, n)
	h := *t
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if h[parent].due <= h[i].due {
			return
		}
		h[parent], h[i] = h[i], h[parent]
		i = parent
	}
}

func (t *timers) pop() timer {
	h := *t
	first, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	*t = h
	for i := 0; ; {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < last; child++ {
			if h[child].due < h[least].due {
				least = child
			}
		}
		if least == i {
			return first
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}

// payloadKey is all that the payload of an answer depends on.
type payloadKey struct {
	path          lwm2m.Path
	format        lwm2m.ContentFormat
	version       uint16
	state, result uint8
}

// netipOf returns an address.
func netipOf(address uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)})
}
