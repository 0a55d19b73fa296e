package lwm2m

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// ServerStatus says how a server is: what it uses of its bounds, what it has counted since
// [NewServer], and what is wrong.
type ServerStatus struct {
	Sockets []SocketStatus // those that it serves now

	// What devices occupy, each with its bound in [ServerConfig].
	Registrations     Use // known endpoints
	RegistrationBytes Use
	Peers             Use // addresses and associations
	Connections       Use // over TCP and TLS
	Handlers          Use // requests of devices that the server works on
	WaitingForHandler Use // requests of devices that wait for it
	Uploads           Use // block-wise transfers from devices
	Downloads         Use // block-wise transfers to devices
	UploadBytes       Use
	Lookups           Use // calls of Credentials
	HookCalls         Use // calls of hooks that wait

	// Waiting and UnderWay are the requests to devices that wait, for their turn or for a sleeping
	// device, and those whose turn it is. Unstored is how many registrations are newer than their
	// stored records.
	Waiting, UnderWay, Unstored int

	Counts ServerCounts

	// What is wrong now; the zero Trouble if nothing is.
	Asking  Trouble // the last call of Credentials failed
	Reading Trouble // Credentials cannot be read; earlier ones hold
	Storing Trouble // the last registration could not be stored

	// Refusals are the latest refusals, at most 256 of them and 64 of one host, the latest one
	// first.
	Refusals []Refusal

	CertificateEnds time.Time // end of the server's certificate; zero without one
}

// A Use says how much of something is in use.
type Use struct {
	Now, Most int64 // Most is 0 if there is no bound
}

// A Trouble is something that does not work.
type Trouble struct {
	Since time.Time // zero: it works
	Err   error     // the latest error
}

// SocketStatus says how a socket of a server is.
type SocketStatus struct {
	// Transport is UDP, DTLS or TCP. That of a listener is TCP, also if its connections are TLS.
	Transport  Transport
	Addr       netip.AddrPort
	Open       int // peers over UDP, associations over DTLS, connections
	Handshakes Use // of DTLS, in progress
}

// ServerCounts are counts since [NewServer].
type ServerCounts struct {
	Handshakes           uint64 // of DTLS and TLS that succeeded
	FailedHandshakes     uint64 // as [ServerHooks].Handshake reports them
	Refusals             uint64 // of a Register, an Update, a De-register or a Send
	Retransmissions      uint64 // messages that the server sent again
	DroppedRequests      uint64 // requests of devices for which there was no room
	DroppedNotifications uint64 // whose values a function of the program did not take in time
	DroppedReports       uint64 // calls of functions of [Server.OnHandshakeFailed]
	DroppedHooks         uint64 // calls of hooks
}

// tally counts for ServerCounts.
type tally struct {
	handshakes, failedHandshakes, refusals, retransmissions, requests, notifications, reports, hooks atomic.Uint64
}

// trouble is what does not work.
type trouble struct{ asking, reading, storing noted }

// noted is a Trouble that several goroutines note.
type noted struct {
	mu sync.Mutex
	is Trouble
}

// note notes how the latest try ended. One that was given up says nothing.
func (n *noted) note(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch n.is.Err = err; {
	case err == nil:
		n.is.Since = time.Time{}
	case n.is.Since.IsZero():
		n.is.Since = time.Now()
	}
}

func (n *noted) get() Trouble {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.is
}

// Status returns how the server is. It reads counters and short lists only, so that it costs
// little.
func (s *Server) Status() ServerStatus {
	c, e := &s.config, s.coap.Status()
	use := func(n int, most int) Use { return Use{int64(n), int64(most)} }
	status := ServerStatus{
		Peers: Use(e.Peers), Connections: Use(e.Streams), Handlers: Use(e.Workers), WaitingForHandler: Use(e.Queue),
		Uploads: Use(e.Uploads), Downloads: Use(e.Downloads), UploadBytes: Use(e.UploadBytes),
		HookCalls: use(int(s.hooks.waiting.Load()), maxHookCalls),
		Counts: ServerCounts{
			Handshakes: s.tally.handshakes.Load(), FailedHandshakes: s.tally.failedHandshakes.Load(), Refusals: s.tally.refusals.Load(),
			Retransmissions: s.tally.retransmissions.Load(), DroppedRequests: s.tally.requests.Load(),
			DroppedNotifications: s.tally.notifications.Load(), DroppedReports: s.tally.reports.Load(), DroppedHooks: s.tally.hooks.Load(),
		},
		Asking: s.trouble.asking.get(), Reading: s.trouble.reading.get(), Storing: s.trouble.storing.get(),
		Refusals: s.refusals.latest(),
	}
	for _, socket := range e.Sockets {
		one := SocketStatus{Transport: TransportUDP, Addr: socket.Addr, Open: socket.Open}
		switch {
		case socket.Stream:
			one.Transport = TransportTCP
		case socket.Secure:
			one.Transport, one.Handshakes = TransportDTLS, use(socket.Handshakes, c.MaxHandshakes)
		}
		status.Sockets = append(status.Sockets, one)
	}
	s.asking.mu.Lock()
	status.Lookups = use(s.asking.running, s.asking.limit)
	s.asking.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	status.Registrations = use(s.table.byEndpoint.Len(), c.MaxRegistrations)
	status.RegistrationBytes = Use{s.table.size, c.MaxRegistrationBytes}
	status.Waiting, status.UnderWay, status.Unstored = s.waiting, s.running, len(s.dirty)
	if c.Certificate != nil && c.Certificate.Leaf != nil {
		status.CertificateEnds = c.Certificate.Leaf.NotAfter
	}
	return status
}
