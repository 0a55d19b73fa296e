package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	rolloutfsm "github.com/otago-iot/otago/firmware/rollout/fsm"
	document "github.com/otago-iot/otago/internal/problem"
	"github.com/otago-iot/otago/store"
)

// Program is what a program says of itself, for [Config.Status]. The zero value says nothing.
type Program struct {
	// Version is that of the program. Default: that of its main module, as the go command noted it.
	Version string
	// Sockets are those of the program. One with the address and the kind (UDP or TCP) of a socket
	// of the lwm2m.Server gives that its Door and Protocol.
	Sockets []Socket
	// Degraded is what does not work as it should, beside what the handler finds by itself.
	Degraded []Degradation
	// NotReady is a sentence that says why the program cannot serve; "" if it can. Anyone who
	// reaches /readyz can read it.
	NotReady string
}

// A Socket is one that a program listens on.
type Socket struct {
	Door     string // the program's name for it, such as "operators"
	Address  string // host and port
	Protocol string // a URI scheme, such as "coaps" or "https"
	Open     int    // connections
	Limit    int    // of these; 0 if there is none
}

// A Degradation is something that does not work as it should.
type Degradation struct {
	What  string    // in one word, such as "certificate"
	Why   string    // a sentence
	Since time.Time // zero if that is not known
	ToDo  string    // a sentence
}

// statusAge is how long what was found out serves other requests.
const statusAge = time.Second

// A monitor finds out how everything is, for all requests of a second.
type monitor struct {
	manager interface {
		Status(ctx context.Context) firmware.Status
	}
	program   func() Program
	followers func() (open, most int) // nil: not known
	log       *slog.Logger
	started   time.Time

	mu    sync.Mutex
	at    time.Time
	is    condition
	since map[string]time.Time // of a degradation, by its sentence

	calling sync.Mutex // held by a call of program
}

// A condition is how everything was at some moment.
type condition struct {
	manager  firmware.Status
	program  Program
	open     int // event streams
	most     int
	degraded []Degradation
	reasons  []string // why the program cannot serve
}

// look returns how everything is. It takes a few seconds at most.
func (m *monitor) look(ctx context.Context) condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.at.IsZero() && time.Since(m.at) < statusAge {
		return m.is
	}
	c := condition{manager: m.manager.Status(context.WithoutCancel(ctx)), program: m.ask()}
	if m.followers != nil {
		c.open, c.most = m.followers()
	}
	c.judge(time.Now())
	now := time.Now()
	since := make(map[string]time.Time)
	for i := range c.degraded {
		d := &c.degraded[i]
		known, ok := m.since[d.What]
		if !ok {
			known = now
		}
		since[d.What] = known
		if d.Since.IsZero() {
			d.Since = known
		}
	}
	m.is, m.at, m.since = c, now, since
	return c
}

// programTime is how long the program's function may take.
const programTime = time.Second

// ask calls the program's function. While one call does not return there is no other.
func (m *monitor) ask() (p Program) {
	if m.program == nil {
		return Program{}
	}
	silent := Program{Degraded: []Degradation{{
		What: "program", Why: "The program does not say how it is: its function for the status does not return, or panics.",
		ToDo: "Look into the log of the program, and at what the function of Config.Status waits for.",
	}}}
	if !m.calling.TryLock() {
		return silent
	}
	done := make(chan Program, 1)
	go func() {
		defer m.calling.Unlock()
		answer := silent
		defer func() {
			if p := recover(); p != nil {
				m.log.Error("Config.Status panicked", "panic", p, "stack", string(debug.Stack()))
				answer = silent
			}
			done <- answer
		}()
		answer = m.program()
	}()
	select {
	case p = <-done:
	case <-time.After(programTime):
		p = silent
	}
	p.Degraded = p.Degraded[:min(len(p.Degraded), maxDegraded)]
	p.Sockets = p.Sockets[:min(len(p.Sockets), maxSockets)]
	return p
}

// Bounds of what a program says of itself.
const (
	maxDegraded = 100
	maxSockets  = 100
)

// certificateTime is how long before its end a certificate counts as degraded.
const certificateTime = 14 * 24 * time.Hour

// judge finds out what is degraded, and why the program cannot serve.
func (c *condition) judge(now time.Time) {
	m := &c.manager
	add := func(what string, since time.Time, why, toDo string) {
		c.degraded = append(c.degraded, Degradation{what, why, since, toDo})
	}
	// stops is add for what keeps the program from serving.
	stops := func(what string, since time.Time, why, toDo string) {
		add(what, since, why, toDo)
		c.reasons = append(c.reasons, why)
	}
	if c.program.NotReady != "" {
		stops("program", time.Time{}, c.program.NotReady, "Wait, or look into the log of the program.")
	}
	switch l := m.Store.Lease; {
	case l != nil && l.Lost:
		stops("lease", time.Time{}, "Another server has taken over the store: this one changes nothing and sends nothing.",
			"End this server, or start it again as a standby.")
	case l != nil && !l.Held:
		stops("lease", l.Until, "The lease of the store is over: the server sends nothing until it can renew the lease.",
			"Look at the database and at the network to it. The server goes on by itself.")
	}
	switch {
	case m.Away != nil:
		stops("store", time.Time{}, "The store does not answer.", "Look at the database or at the disk. The server goes on by itself.")
	case errors.Is(m.Store.Err, store.ErrNoSpace):
		stops("store", m.Store.FailingSince, "The disk is full: the store refuses what the server has to write.",
			"Make room on the disk. The server goes on by itself.")
	case !m.Store.FailingSince.IsZero():
		stops("store", m.Store.FailingSince, "The store refuses what the server has to write.",
			"Look at the error of the store in the status and in the log. The server tries again by itself.")
	}
	if !m.Running {
		stops("manager", time.Time{}, "The manager of updates does not run: the server starts, or it ends.",
			"Wait. If it stays so, the program has ended Manager.Run, or has not called it.")
	}
	s := &m.Server
	if !s.Asking.Since.IsZero() {
		add("credentials", s.Asking.Since, "Credentials cannot be asked: registered devices stay registered, and new ones are refused.",
			"Look at the database or the file of the credentials, and into the log.")
	}
	if !s.Reading.Since.IsZero() {
		add("credentials_file", s.Reading.Since, "The credentials cannot be read: what they were before holds.",
			"Mend the file that the log names. The server reads it again by itself.")
	}
	if !s.Storing.Since.IsZero() {
		add("registrations", s.Storing.Since, "Registrations cannot be stored: devices that register are refused.",
			"Look at the store. The server tries again by itself.")
	}
	switch end := s.CertificateEnds; {
	case end.IsZero():
	case !now.Before(end):
		add("certificate", end, "The server's certificate has ended: devices that check it refuse the server.",
			"Give the server a new certificate, and start it again.")
	case end.Sub(now) < certificateTime:
		add("certificate", end.Add(-certificateTime), "The server's certificate ends at "+end.UTC().Format(time.RFC3339)+".",
			"Give the server a new certificate, and start it again, before that.")
	}
	if len(m.Missing) > 0 {
		add("images", time.Time{}, "Images that active updates need are missing in the folder: "+strings.Join(m.Missing, ", ")+".",
			"Upload the same bytes again, which repairs an image, or restore the folder from a backup.")
	}
	if c.most > 0 && c.open >= c.most {
		add("followers", time.Time{}, "As many event streams are open as there may be: further ones are refused.",
			"Close some, or raise Config.MaxStreams.")
	}
	for _, q := range queuesOf(c) {
		if q.Limit != nil && *q.Limit > 0 && q.Length >= *q.Limit && q.Name != "followers" {
			add(q.Name, time.Time{}, "A limit is reached: "+q.Text+".", "See doc/sizing.md for when to raise the limit.")
		}
	}
	c.degraded = append(c.degraded, c.program.Degraded...)
}

// Health returns a handler for the paths that end with /healthz and /readyz, which a program mounts
// where it likes. It asks for no credentials, and its answers say nothing that a stranger may not
// know: no address, no name, no error of the system.
//
// GET /healthz answers 200 as long as the process works. GET /readyz answers 200 while the program
// can serve devices and operators, and else 503, with sentences that say why: the store does not
// answer, refuses writes, or belongs to another server; [firmware.Manager.Run] does not run;
// Program.NotReady of [Config.Status]. At most once in a second it asks the store. Of config it
// uses Status and Logger. The error says that m is nil.
func Health(m *firmware.Manager, config Config) (http.Handler, error) {
	if m == nil {
		return nil, errors.New("httpapi: Health: the manager is nil")
	}
	config = config.withDefaults()
	watch := &monitor{manager: m, program: config.Status, log: config.Logger, started: time.Now()}
	return http.HandlerFunc(watch.serveHealth), nil
}

// healthView is the answer of /healthz and /readyz.
type healthView struct {
	Status  string   `json:"status"`  // "ok" or "unavailable"
	Reasons []string `json:"reasons"` // sentences; empty for ok
}

func (m *monitor) serveHealth(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	healthy, ready := strings.HasSuffix(r.URL.Path, "/healthz"), strings.HasSuffix(r.URL.Path, "/readyz")
	switch {
	case !healthy && !ready:
		document.Write(w, notFound(r).Document)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		document.Write(w, document.Of(http.StatusMethodNotAllowed, "only GET and HEAD are possible"))
		return
	}
	view, status := healthView{Status: "ok", Reasons: []string{}}, http.StatusOK
	if ready {
		if reasons := m.look(r.Context()).reasons; len(reasons) > 0 {
			view, status = healthView{Status: "unavailable", Reasons: reasons}, http.StatusServiceUnavailable
		}
	}
	if err := writeJSON(w, status, view); err != nil {
		m.log.Error("the state of health is no JSON", "error", err)
	}
}

// getStatus answers with all that is known of the server's state.
func (a *api) getStatus(w http.ResponseWriter, r *http.Request, _ request) error {
	c := a.monitor.look(r.Context())
	view := viewStatus(&c, a.monitor.started, time.Now())
	err := a.countStates(r.Context(), &view)
	if err != nil && len(c.reasons) == 0 {
		return err
	}
	return writeJSON(w, http.StatusOK, view) // without counts, if it says that the store is away
}

// countStates counts updates and rollouts.
func (a *api) countStates(ctx context.Context, view *statusView) error {
	ctx, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	counts, err := a.manager.Counts(ctx, "")
	if err != nil {
		return err
	}
	view.Updates = outcomeCounts(counts)
	if a.rollouts == nil {
		return nil
	}
	view.Rollouts, err = a.rolloutStates(ctx)
	return err
}

// countTime is how long the store may take for the counts of a status.
const countTime = 2 * time.Second

// outcomeCounts returns how many updates there are, by outcome or "active".
func outcomeCounts(counts []store.Count) map[string]uint64 {
	all := map[string]uint64{
		"active": 0, string(fsm.OutcomeSucceeded): 0, string(fsm.OutcomeRolledBack): 0, string(fsm.OutcomeFailed): 0,
		string(fsm.OutcomeCancelled): 0, string(fsm.OutcomeTimedOut): 0,
	}
	for _, c := range counts {
		name := string(c.Outcome)
		if c.Outcome == fsm.OutcomeNone {
			name = "active"
		}
		all[name] += c.Updates
	}
	return all
}

// maxCounted is how many rollouts that have not ended are counted by their state.
const maxCounted = 1000

// rolloutStates counts the rollouts that have not ended.
func (a *api) rolloutStates(ctx context.Context) (map[string]uint64, error) {
	states := map[string]uint64{
		string(rolloutfsm.StateDraft): 0, string(rolloutfsm.StateRunning): 0, string(rolloutfsm.StatePaused): 0,
		string(rolloutfsm.StateStopping): 0,
	}
	for r, err := range a.rollouts.List(ctx, store.RolloutQuery{Active: true, Limit: maxCounted}) {
		switch {
		case errors.Is(err, store.ErrDamaged):
			states["damaged"]++
		case errors.Is(err, store.ErrShort):
		case err != nil:
			return nil, err
		default:
			states[string(r.Machine.State)]++
		}
	}
	return states, nil
}

// versions are those of the program's main module and of this module.
var versions = sync.OnceValue(func() (v versionsView) {
	v.Go = runtime.Version()
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	v.Program = info.Main.Version
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath {
			v.Library = m.Version
		}
	}
	return v
})

const modulePath = "github.com/otago-iot/otago"
