package httpapi

import (
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// statusView is how the server is.
type statusView struct {
	Version  versionsView      `json:"version"`
	Started  time.Time         `json:"started"`
	Uptime   int64             `json:"uptime_seconds"`
	Ready    bool              `json:"ready"`
	Degraded []degradationView `json:"degraded"`
	Store    storeView         `json:"store"`
	Sockets  []socketView      `json:"sockets"`
	Queues   []queueView       `json:"queues"`
	Counters []counterView     `json:"counters"`
	Refusals []refusalView     `json:"refusals"` // the latest one first
	Updates  map[string]uint64 `json:"updates"`  // by outcome, or "active"; null while the store does not answer
	Rollouts map[string]uint64 `json:"rollouts"` // that have not ended, by state; null also without rollouts
}

type versionsView struct {
	Program string `json:"program"` // "" if it is not known
	Library string `json:"library"`
	Go      string `json:"go"`
}

type degradationView struct {
	What  string    `json:"what"`
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	ToDo  string    `json:"todo"`
}

type storeView struct {
	Kind         string     `json:"kind"`   // "" if the store does not say
	Format       int        `json:"format"` // 0 for none
	Bytes        *int64     `json:"bytes"`  // null if that is not known
	LastCommit   *time.Time `json:"last_commit"`
	Age          *float64   `json:"last_commit_age_seconds"`
	FailingSince *time.Time `json:"failing_since"`
	Error        string     `json:"error"` // "" if it works
	Lease        *leaseView `json:"lease"` // null for a store of one server
}

type leaseView struct {
	State string     `json:"state"` // held, over, lost
	Node  string     `json:"node"`
	Until *time.Time `json:"until"`
}

type socketView struct {
	Door     string `json:"door"`
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
	Open     int    `json:"open"`
	Limit    *int64 `json:"limit"`
}

type queueView struct {
	Name   string `json:"name"`
	Length int64  `json:"length"`
	Limit  *int64 `json:"limit"` // null if there is none
	Text   string `json:"text"`
}

type counterView struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
	Text  string `json:"text"`
}

// refusalView is what was refused to a device, or to one who claims to be it.
type refusalView struct {
	What      string    `json:"what"`
	Endpoint  string    `json:"endpoint"` // "" if none is claimed
	Identity  string    `json:"identity"` // the same; of a key or a certificate
	Address   string    `json:"address"`
	Transport string    `json:"transport"`
	Reason    string    `json:"reason"`
	Count     uint64    `json:"count"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
}

const maxError = 300 // bytes of an error in a status

// viewStatus returns the view, without the counts of updates and rollouts.
func viewStatus(c *condition, started, now time.Time) statusView {
	v := statusView{
		Version: versions(), Started: instant(started), Uptime: int64(now.Sub(started) / time.Second), Ready: len(c.reasons) == 0,
		Degraded: make([]degradationView, len(c.degraded)), Sockets: socketsOf(c), Queues: queuesOf(c), Counters: countersOf(c),
		Refusals: []refusalView{},
	}
	for _, f := range c.manager.Server.Refusals {
		v.Refusals = append(v.Refusals, refusalView{
			f.What, f.Endpoint, f.Identity.Name, f.Address.String(), f.Transport.String(), f.Reason, f.Count, instant(f.First), instant(f.Last),
		})
	}
	if c.program.Version != "" {
		v.Version.Program = c.program.Version
	}
	for i, d := range c.degraded {
		v.Degraded[i] = degradationView{d.What, d.Why, instant(d.Since), d.ToDo}
	}
	r := &c.manager.Store
	v.Store = storeView{Kind: r.Kind, Format: r.Format, LastCommit: moment(r.LastCommit), FailingSince: moment(r.FailingSince)}
	if r.Bytes > 0 {
		v.Store.Bytes = &r.Bytes
	}
	if !r.LastCommit.IsZero() {
		v.Store.Age = new(max(0, now.Sub(r.LastCommit).Round(time.Millisecond).Seconds()))
	}
	for _, err := range []error{r.Err, c.manager.Away} {
		if err != nil {
			v.Store.Error = clip(err.Error(), maxError)
		}
	}
	if l := r.Lease; l != nil {
		v.Store.Lease = &leaseView{State: "over", Node: l.Node, Until: moment(l.Until)}
		switch {
		case l.Lost:
			v.Store.Lease.State = "lost"
		case l.Held:
			v.Store.Lease.State = "held"
		}
	}
	return v
}

// socketsOf returns the sockets of the lwm2m.Server, named by those of the program, and then the
// others of the program.
func socketsOf(c *condition) []socketView {
	list := []socketView{}
	named := make([]bool, len(c.program.Sockets))
	for _, s := range c.manager.Server.Sockets {
		v := socketView{Address: s.Addr.String(), Protocol: s.Transport.String(), Open: s.Open}
		if s.Transport == lwm2m.TransportTCP {
			v.Limit = limit(c.manager.Server.Connections.Most)
		} else {
			v.Limit = limit(c.manager.Server.Peers.Most)
		}
		for i, p := range c.program.Sockets {
			stream := p.Protocol != lwm2m.TransportUDP.String() && p.Protocol != lwm2m.TransportDTLS.String()
			if !named[i] && p.Address == v.Address && stream == (s.Transport == lwm2m.TransportTCP) {
				v.Door, v.Protocol, named[i] = p.Door, p.Protocol, true
				break
			}
		}
		list = append(list, v)
	}
	for i, p := range c.program.Sockets {
		if !named[i] {
			list = append(list, socketView{p.Door, p.Address, p.Protocol, p.Open, limit(int64(p.Limit))})
		}
	}
	return list
}

func limit(n int64) *int64 {
	if n <= 0 {
		return nil
	}
	return &n
}

// queuesOf returns what occupies places, and how many there are.
func queuesOf(c *condition) []queueView {
	m, s := &c.manager, &c.manager.Server
	var list []queueView
	add := func(name string, use lwm2m.Use, text string) {
		list = append(list, queueView{name, use.Now, limit(use.Most), text})
	}
	add("registrations", s.Registrations, "endpoints that are known")
	add("registration_bytes", s.RegistrationBytes, "bytes of the text of all registrations")
	add("peers", s.Peers, "addresses and associations that the server keeps")
	add("connections", s.Connections, "connections of devices over TCP and TLS")
	add("handshakes", handshakesOf(s), "handshakes of DTLS in progress")
	add("device_requests", s.Handlers, "requests of devices that the server works on")
	add("device_requests_waiting", s.WaitingForHandler, "requests of devices that wait for that")
	add("uploads", s.Uploads, "block-wise transfers from devices")
	add("downloads", s.Downloads, "block-wise transfers to devices")
	add("upload_bytes", s.UploadBytes, "bytes of unfinished transfers from devices")
	add("lookups", s.Lookups, "calls of the credentials")
	add("requests", lwm2m.Use{Now: int64(s.UnderWay)}, "requests to devices whose turn it is")
	add("requests_waiting", lwm2m.Use{Now: int64(s.Waiting)}, "requests to devices that wait, for their turn or for a sleeping device")
	add("registrations_unstored", lwm2m.Use{Now: int64(s.Unstored)}, "registrations that are newer than their stored records")
	add("updates_active", m.Updates, "updates that have not ended")
	add("update_requests", m.Requests, "requests of updates to devices that answer")
	add("update_pushes", m.Pushes, "packages that are being written to devices")
	add("inventory_reads", m.Reads, "reads of what devices are")
	add("update_requests_silent", m.Silent, "requests of updates that devices have left unanswered")
	add("update_requests_waiting", lwm2m.Use{Now: int64(m.Waiting)}, "requests of updates that wait for a place")
	add("hook_calls", m.HookCalls, "calls of the program's hooks for updates that wait")
	add("server_hook_calls", s.HookCalls, "calls of the program's hooks for devices that wait")
	add("followers", lwm2m.Use{Now: int64(c.open), Most: int64(c.most)}, "event streams that are open")
	return list
}

// handshakesOf adds up the handshakes of all sockets.
func handshakesOf(s *lwm2m.ServerStatus) (all lwm2m.Use) {
	for _, socket := range s.Sockets {
		all.Now, all.Most = all.Now+socket.Handshakes.Now, all.Most+socket.Handshakes.Most
	}
	return all
}

// countersOf returns what was counted since the start.
func countersOf(c *condition) []counterView {
	n := &c.manager.Server.Counts
	return []counterView{
		{"handshakes", n.Handshakes, "handshakes of DTLS and TLS that succeeded"},
		{"handshakes_failed", n.FailedHandshakes, "handshakes that failed, of peers whose address is verified"},
		{"refusals", n.Refusals, "Registers, Updates, De-registers and Sends that were refused"},
		{"retransmissions", n.Retransmissions, "messages that the server sent again"},
		{"requests_dropped", n.DroppedRequests, "requests of devices for which there was no room"},
		{"notifications_dropped", n.DroppedNotifications, "notifications whose values the program did not take in time"},
		{"handshake_reports_dropped", n.DroppedReports, "reports of failed handshakes that the program did not take in time"},
		{"hook_calls_dropped", n.DroppedHooks, "calls of hooks that were left out, as earlier ones did not return"},
	}
}
