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
	links    *text  // of the table; nil for none
	extra    *extra
	activity *activity

	peer   coap.Peer
	common unique.Handle[common] // the zero Handle for the zero value

	registered, updated, seen, ended int64 // Unix nanoseconds, 0 for never

	// Deadlines are on the server's own clock, so that a step of the system's ends no
	// registrations.
	expires time.Duration // when the registration ends
	heard   time.Duration // when the device was last heard
	due     time.Duration // when the table handles the device next: perhaps too early, never too late
	index   int32         // in the table's heap, -1 when not there

	secured   bool
	awake     bool // listens, as far as the server knows; without queue mode: has left no request unanswered since it was heard
	reachable bool // the server can send to peer
	settling  bool // the answer to its Register is on the way
}

// common is what many devices have in common, so that they share one copy.
type common struct {
	binding  string
	local    netip.AddrPort
	lifetime uint32 // s
	version  Version
	queue    bool
	awake    time.Duration // listens so long in queue mode; 0 for AwakeTime
}

// settings returns what d has in common with others.
func (d *device) settings() (c common) {
	if d.common != (unique.Handle[common]{}) {
		c = d.common.Value()
	}
	return c
}

func (d *device) setSettings(c common) { d.common = unique.Make(c) }

// setAwakeTime sets how long d listens after a message, 0 for AwakeTime.
func (d *device) setAwakeTime(awake time.Duration) {
	if c := d.settings(); c.awake != awake {
		c.awake = awake
		d.setSettings(c)
	}
}

// queue reports whether d uses queue mode.
func (d *device) queue() bool { return d.settings().queue }

// extra holds what only few devices have.
type extra struct {
	sms, profile string
	attributes   *text // of the table; nil for none
	identity     Identity
	root         string         // of the objects, "" if it is that of the device
	address      netip.AddrPort // of a device whose association outlives its address (DTLS); else that of peer
}

// activity is the state of a device with requests, observations or events.
type activity struct {
	queue        requestQueue
	observations map[*Observation]struct{}
	follow       *following
	events       []RegistrationEvent
	dispatching  bool // a worker delivers the events, or will

	room [2]*Call // for the queue of a device with one request
}

func (a *activity) idle() bool {
	return a.queue.idle() && len(a.observations) == 0 && a.follow == nil && len(a.events) == 0 && !a.dispatching
}

// act returns the device's activity to add something to it.
func (d *device) act() *activity {
	if d.activity == nil {
		a := &activity{}
		a.queue.waiting, a.queue.running = a.room[:0:1], a.room[1:1:2]
		d.activity = a
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

// attributes returns the text of the device's attributes, nil for none.
func (d *device) attributes() *text {
	if d.extra == nil {
		return nil
	}
	return d.extra.attributes
}

func (d *device) root() string {
	if d.extra == nil {
		return ""
	}
	return d.extra.root
}

// registration returns the record as a Registration.
func (d *device) registration() Registration {
	c := d.settings()
	r := Registration{
		Endpoint:   d.endpoint,
		ID:         d.id,
		Address:    d.peer.Addr,
		Local:      c.local,
		Transport:  Transport(d.peer.Transport),
		Version:    c.version,
		Lifetime:   time.Duration(c.lifetime) * time.Second,
		Binding:    c.binding,
		Queue:      c.queue,
		Links:      d.links.String(),
		Secured:    d.secured,
		Registered: fromNano(d.registered),
		Updated:    fromNano(d.updated),
		LastSeen:   fromNano(d.seen),
		Ended:      fromNano(d.ended),
	}
	if d.extra != nil {
		r.SMS, r.ProfileID, r.Attributes, r.Identity = d.extra.sms, d.extra.profile, d.extra.attributes.String(), d.extra.identity
		if d.extra.address.IsValid() {
			r.Address = d.extra.address
		}
	}
	return r
}

// set sets d from a Register, an Update or a stored registration. Only [table.set] calls it; links
// holds r.Links, attributes r.Attributes. The awake time stays.
func (d *device) set(r Registration, links, attributes *text) {
	d.id = r.ID
	root := d.root()
	if links != d.links {
		d.links, root = links, r.Objects().Root
	}
	d.extra = nil
	if r.SMS != "" || r.ProfileID != "" || attributes != nil || !r.Identity.isZero() || root != "" {
		d.extra = &extra{sms: r.SMS, profile: r.ProfileID, attributes: attributes, identity: r.Identity, root: root}
		if r.Transport == TransportDTLS {
			d.extra.address = r.Address
		}
	}
	d.setSettings(common{r.Binding, r.Local, uint32(r.Lifetime / time.Second), r.Version, r.Queue, d.settings().awake})
	d.registered, d.updated, d.seen, d.ended = toNano(r.Registered), toNano(r.Updated), toNano(r.LastSeen), toNano(r.Ended)
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
