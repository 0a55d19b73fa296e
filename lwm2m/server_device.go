package lwm2m

import (
	"net/netip"
	"time"
	"unique"

	"github.com/otago-iot/otago/internal/coap"
)

// A device is a server's record of one endpoint. It is small, since there may be millions: activity
// has what only busy devices need, extra what only few devices send. Guarded by Server.mu.
type device struct {
	endpoint string
	id       string // "" once the registration has ended
	binding  shared[string]
	links    *text // of the table; nil for none
	extra    *extra
	activity *activity

	peer  coap.Peer
	local shared[netip.AddrPort]

	registered, updated, seen, ended int64 // Unix nanoseconds, 0 for never

	// Deadlines are on the server's own clock, so that a step of the system's ends no
	// registrations.
	expires time.Duration // when the registration ends
	heard   time.Duration // when the device was last heard
	due     time.Duration // when the table handles the device next: perhaps too early, never too late
	index   int32         // in the table's heap, -1 when not there

	lifetime  uint32 // s
	version   Version
	queue     bool
	secured   bool
	awake     bool // in queue mode: listens, as far as the server knows
	reachable bool // the server can send to peer
	settling  bool // the answer to its Register is on the way
}

// shared is a value that many devices have in common. The zero value of T costs nothing.
type shared[T comparable] struct{ h unique.Handle[T] }

func share[T comparable](v T) (s shared[T]) {
	var none T
	if v != none {
		s.h = unique.Make(v)
	}
	return s
}

func (s shared[T]) value() (v T) {
	if s != (shared[T]{}) {
		v = s.h.Value()
	}
	return v
}

// extra holds what only few devices have.
type extra struct {
	sms, profile string
	identity     Identity
	root         string         // of the objects, "" if it is that of the device
	address      netip.AddrPort // of a device whose association outlives its address (DTLS); else that of peer
}

// activity is the state of a device with requests, observations or events.
type activity struct {
	queue        requestQueue
	observations map[*Observation]struct{}
	events       []RegistrationEvent
	dispatching  bool // a worker delivers the events, or will
}

func (a *activity) idle() bool {
	return a.queue.idle() && len(a.observations) == 0 && len(a.events) == 0 && !a.dispatching
}

// act returns the device's activity to add something to it.
func (d *device) act() *activity {
	if d.activity == nil {
		d.activity = &activity{}
	}
	return d.activity
}

// trim frees what is no longer needed.
func (d *device) trim() {
	if d.activity != nil && d.activity.idle() {
		d.activity = nil
	}
}

func (d *device) active() bool { return d.id != "" }

func (d *device) identity() Identity {
	if d.extra == nil {
		return Identity{}
	}
	return d.extra.identity
}

func (d *device) root() string {
	if d.extra == nil {
		return ""
	}
	return d.extra.root
}

// registration returns the record as a Registration.
func (d *device) registration() Registration {
	r := Registration{
		Endpoint:   d.endpoint,
		ID:         d.id,
		Address:    d.peer.Addr,
		Local:      d.local.value(),
		Transport:  Transport(d.peer.Transport),
		Version:    d.version,
		Lifetime:   time.Duration(d.lifetime) * time.Second,
		Binding:    d.binding.value(),
		Queue:      d.queue,
		Links:      d.links.String(),
		Secured:    d.secured,
		Registered: fromNano(d.registered),
		Updated:    fromNano(d.updated),
		LastSeen:   fromNano(d.seen),
		Ended:      fromNano(d.ended),
	}
	if d.extra != nil {
		r.SMS, r.ProfileID, r.Identity = d.extra.sms, d.extra.profile, d.extra.identity
		if d.extra.address.IsValid() {
			r.Address = d.extra.address
		}
	}
	return r
}

// set sets d from a Register, an Update or a stored registration. Only [table.set] calls it; links
// holds r.Links.
func (d *device) set(r Registration, links *text) {
	d.id = r.ID
	d.binding = share(r.Binding)
	root := d.root()
	if links != d.links {
		d.links, root = links, r.Objects().Root
	}
	d.extra = nil
	if r.SMS != "" || r.ProfileID != "" || !r.Identity.isZero() || root != "" {
		d.extra = &extra{sms: r.SMS, profile: r.ProfileID, identity: r.Identity, root: root}
		if r.Transport == TransportDTLS {
			d.extra.address = r.Address
		}
	}
	d.local = share(r.Local)
	d.registered, d.updated, d.seen, d.ended = toNano(r.Registered), toNano(r.Updated), toNano(r.LastSeen), toNano(r.Ended)
	d.lifetime = uint32(r.Lifetime / time.Second)
	d.version = r.Version
	d.queue = r.Queue
	d.secured = r.Secured
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
