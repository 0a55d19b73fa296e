package coap

import (
	"net"
	"net/netip"
	"slices"

	"github.com/otago-iot/otago/internal/udp"
)

// Status is how much of its bounds an endpoint uses.
type Status struct {
	Sockets []SocketStatus

	Peers       Use // addresses and associations that it keeps
	Streams     Use // connections
	Workers     Use // requests of peers that handlers serve
	Queue       Use // requests of peers that wait for a handler; see Bounds.Queue
	Uploads     Use // unfinished bodies of peers
	UploadBytes Use
	Downloads   Use // bodies that peers fetch
	StreamBytes Use // that wait to be written to streams
}

// A Use says how much of something is in use.
type Use struct{ Now, Most int64 }

// SocketStatus is how a socket is that the endpoint serves.
type SocketStatus struct {
	Stream     bool // a listener for TCP or TLS
	Secure     bool // DTLS; unknown of a listener
	Addr       netip.AddrPort
	Open       int // associations and connections
	Handshakes int // of DTLS, in progress
}

// A doorway is a listener for streams.
type doorway struct {
	addr net.Addr
	from *origin
}

// listens notes a listener until the function that it returns is called.
func (e *Endpoint) listens(d *doorway) (end func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doors = append(e.doors, d)
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.doors = slices.DeleteFunc(e.doors, func(other *doorway) bool { return other == d })
	}
}

// count counts an association that begins or ends.
func (h *home) count(n int64) {
	if h != nil && h.origin != nil {
		h.origin.open.Add(n)
	}
}

// Status returns how much of its bounds the endpoint uses.
func (e *Endpoint) Status() Status {
	b := &e.config.Bounds
	s := Status{
		Streams:     Use{e.connections.total(), int64(b.Streams)},
		Workers:     Use{e.pool.workers.total(), int64(b.Workers)},
		Queue:       Use{e.pool.waiting.total(), int64(b.Queue)},
		Uploads:     Use{e.uploads.room.total(), int64(b.Uploads)},
		UploadBytes: Use{e.uploadBytes.total(), b.UploadBytes},
		Downloads:   Use{e.downloads.held.room.total(), int64(b.Downloads)},
		StreamBytes: Use{e.unwritten.Load(), b.StreamBytes},
	}
	e.table.mu.RLock()
	s.Peers = Use{int64(e.table.peers.Len()), int64(e.table.max)}
	e.table.mu.RUnlock()
	e.mu.Lock()
	servers, doors := slices.Clone(e.servers), slices.Clone(e.doors)
	e.mu.Unlock()
	for _, server := range servers {
		switch one := server.(type) {
		case *socket:
			if !one.only.IsValid() {
				s.Sockets = append(s.Sockets, SocketStatus{Addr: one.Addr(), Open: int(one.origin.open.Load())})
			}
		case *dtlsSocket:
			if !one.Dialled() {
				s.Sockets = append(s.Sockets, SocketStatus{
					Secure: true, Addr: one.Addr(), Open: int(one.origin.open.Load()), Handshakes: one.Handshakes(),
				})
			}
		}
	}
	for _, d := range doors {
		addr, _ := udp.AddrPort(d.addr)
		s.Sockets = append(s.Sockets, SocketStatus{Stream: true, Addr: addr, Open: int(d.from.open.Load())})
	}
	return s
}
