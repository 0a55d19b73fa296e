package lwm2m

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Refusal says that the server refused a device, or one who claims to be it: a handshake that
// failed, or a request. What the same sender repeats is one Refusal; a sender that names nothing is
// known by its host and the reason.
type Refusal struct {
	// What was refused: "handshake", "registration", "update", "de-registration" or "send".
	What string
	// Endpoint is the one that the sender claims, "" if none; a handshake claims none. Of a name
	// that is too long it is the first 255 bytes.
	Endpoint string
	// Identity is that of the key which the sender claims in a handshake, the first 1024 bytes of
	// it; of a request it is proven. It is zero if there is none.
	Identity Identity
	// Address and Transport are those of the latest refusal.
	Address   netip.AddrPort
	Transport Transport
	// Reason is the latest error, at most 300 bytes of it.
	Reason string
	// Count is how often it was refused, for the first time at First and for the latest at Last.
	Count       uint64
	First, Last time.Time
}

// Bounds of the refusals that are kept. Those of one host push out each other first, so that it
// cannot hide the devices of others.
const (
	maxRefusals     = 256
	maxHostRefusals = 64
	maxReason       = 300 // bytes
)

// refusals are the latest refusals of a server, the latest one last.
type refusals struct {
	mu   sync.Mutex
	list []Refusal
}

// note notes a refusal.
func (l *refusals) note(r Refusal, err error, now time.Time) {
	r.Reason = clip(err.Error(), maxReason)
	r.Endpoint, r.Identity.Name = clip(r.Endpoint, maxEndpoint), clip(r.Identity.Name, maxIdentity)
	r.Count, r.First, r.Last = 1, now, now
	host := r.Address.Addr()
	l.mu.Lock()
	defer l.mu.Unlock()
	same := func(other Refusal) bool {
		return other.What == r.What && other.Endpoint == r.Endpoint && other.Identity == r.Identity &&
			(r.Endpoint != "" || !r.Identity.isZero() || other.Address.Addr() == host && other.Reason == r.Reason)
	}
	if at := slices.IndexFunc(l.list, same); at >= 0 {
		r.Count, r.First = l.list[at].Count+1, l.list[at].First
		l.list = slices.Delete(l.list, at, at+1)
	} else {
		l.makeRoom(host)
	}
	l.list = append(l.list, r)
}

// clip returns at most so many bytes of a text, without keeping the rest in memory. What is no
// UTF-8 is replaced.
func clip(text string, most int) string {
	if len(text) > most {
		text = strings.Clone(text[:most])
	}
	return strings.ToValidUTF8(text, "\ufffd")
}

// makeRoom leaves out the earliest refusal if there are as many as there may be. l.mu is held.
func (l *refusals) makeRoom(host netip.Addr) {
	earliest, n := 0, 0
	for i := range slices.Backward(l.list) {
		if l.list[i].Address.Addr() == host {
			earliest, n = i, n+1
		}
	}
	if n < maxHostRefusals {
		earliest = 0
	}
	if n >= maxHostRefusals || len(l.list) >= maxRefusals {
		l.list = slices.Delete(l.list, earliest, earliest+1)
	}
}

// latest returns the refusals, the latest one first.
func (l *refusals) latest() []Refusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.Clone(l.list)
	slices.Reverse(list)
	return list
}
