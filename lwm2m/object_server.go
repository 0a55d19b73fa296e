package lwm2m

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serverObject is object 1, Server. A client has one server, and so one instance.
type serverObject struct {
	client  *Client
	initial settings // a Replace of the instance resets the resources that it does not name to these

	mu    sync.Mutex
	now   settings
	good  announced // the settings of the last successful Register or Update
	doubt int       // how likely it is that the server refuses other settings, up to maxDoubt
	lwm2m Version
}

// settings are the resources that a server writes.
type settings struct {
	announced
	pmin    int64 // default for observations, 0 for none
	pmax    int64 // default for observations, 0 for none
	storing bool  // notifications while offline; see Read
	muted   bool
}

// announced are the settings that Register and Update carry, and that the server can refuse there.
type announced struct {
	lifetime int64 // s
	binding  string
}

func (t announced) lifetimeQuery() string { return "lt=" + strconv.FormatInt(t.lifetime, 10) }

// shortServerID is the identifier of the one server.
const shortServerID = 1

// How much doubt a failed Register or Update casts on new settings. Some servers do not answer
// settings that they refuse, or answer with a code for something else.
const (
	maxDoubt    = 12
	doubtBusy   = maxDoubt / 12 // the code is for something else
	doubtSilent = maxDoubt / 3  // there is no answer
)

// Resources of object 1.
const (
	serverShortID  = 0
	serverLifetime = 1
	serverPMin     = 2
	serverPMax     = 3
	serverStoring  = 6
	serverBinding  = 7
	serverTrigger  = 8
	serverMuteSend = 23
)

func newServerObject(c *Client, config ClientConfig) *serverObject {
	initial := settings{announced: announced{lifetime: int64(config.Lifetime / time.Second), binding: "U"}}
	if c.server.transport == TransportTCP || c.server.transport == TransportTLS {
		initial.binding = "T"
	}
	return &serverObject{client: c, initial: initial, now: initial, good: initial.announced, lwm2m: c.version}
}

func (o *serverObject) announced() announced {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now.announced
}

// accepted records that the server accepted t.
func (o *serverObject) accepted(t announced) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.good, o.doubt = t, 0
}

// refused records that the server refused t, with the doubt that this casts on it. If the server
// wrote t and the doubt is enough, the settings go back to good.
func (o *serverObject) refused(t announced, doubt int) (good announced, back bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if t == o.good {
		return o.good, false
	}
	if o.doubt += doubt; o.doubt < maxDoubt {
		return o.good, false
	}
	o.doubt = 0
	if o.now.announced == t { // unless the server has written other settings meanwhile
		o.now.announced = o.good
	}
	return o.good, true
}

func (o *serverObject) isMuted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.now.muted
}

// defaults returns the attributes of observations that have none of their own.
func (o *serverObject) defaults() (a Attributes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Write has checked the values.
	if o.now.pmin > 0 {
		_ = a.Set(AttributePMin, float64(o.now.pmin))
	}
	if o.now.pmax > 0 {
		_ = a.Set(AttributePMax, float64(o.now.pmax))
	}
	return a
}

// ID implements [Object].
func (o *serverObject) ID() uint16 { return 1 }

// FollowVersion implements [VersionFollower].
func (o *serverObject) FollowVersion(lwm2m Version) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lwm2m = lwm2m
}

// mutes reports whether the object has the resource Mute Send, which came with 1.1.
func (o *serverObject) mutes() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lwm2m.Minor > 0
}

// Version implements [Object].
func (o *serverObject) Version() string {
	if o.mutes() {
		return "1.1"
	}
	return ""
}

// Instances implements [Object].
func (o *serverObject) Instances() []uint16 { return []uint16{0} }

// Resources implements [ResourceLister].
func (o *serverObject) Resources(uint16) []uint16 {
	ids := []uint16{serverShortID, serverLifetime, serverPMin, serverPMax, serverStoring, serverBinding, serverTrigger}
	if o.mutes() {
		ids = append(ids, serverMuteSend)
	}
	return ids
}

// Read implements [Object].
func (o *serverObject) Read(_ context.Context, path Path) ([]Entry, error) {
	mutes := o.mutes()
	o.mu.Lock()
	defer o.mu.Unlock()
	binding := o.now.binding
	if o.client.config.Queue && !strings.Contains(binding, "Q") && !mutes { // 1.0 has no other way to say so
		binding += "Q"
	}
	entries := []Entry{
		{Path: NewPath(1, 0, serverShortID), Value: Integer(shortServerID)},
		{Path: NewPath(1, 0, serverLifetime), Value: Integer(o.now.lifetime)},
		{Path: NewPath(1, 0, serverPMin), Value: Integer(o.now.pmin)},
		{Path: NewPath(1, 0, serverPMax), Value: Integer(o.now.pmax)},
		{Path: NewPath(1, 0, serverStoring), Value: Boolean(o.now.storing)},
		{Path: NewPath(1, 0, serverBinding), Value: String(binding)},
	}
	if mutes {
		entries = append(entries, Entry{Path: NewPath(1, 0, serverMuteSend), Value: Boolean(o.now.muted)})
	}
	return selectEntries(path, entries)
}

// selectEntries returns the entries at and below path; if there are none for a resource, the error
// is ErrNotFound.
func selectEntries(path Path, entries []Entry) ([]Entry, error) {
	var found []Entry
	for _, e := range entries {
		if path.Contains(e.Path) {
			found = append(found, e)
		}
	}
	if len(found) == 0 && path.Len() >= 3 {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	return found, nil
}

// Write implements [Object]. A Replace of the instance resets the resources that it does not name
// to their initial values.
func (o *serverObject) Write(_ context.Context, path Path, entries []Entry, replace bool) error {
	mutes := o.mutes()
	o.mu.Lock()
	defer o.mu.Unlock()
	next := o.now
	if replace && path.Len() == 2 {
		next = o.initial
	}
	for _, e := range entries {
		if e.Path.Resource() == serverMuteSend && !mutes {
			return fmt.Errorf("%w: %s", ErrNotFound, e.Path)
		}
		if err := next.take(e); err != nil {
			return err
		}
	}
	if next.pmax != 0 && next.pmax < next.pmin {
		return fmt.Errorf("%w: default pmax is below default pmin", ErrBadRequest)
	}
	o.now = next
	return nil
}

// take checks and sets one value.
func (s *settings) take(e Entry) error {
	n, isNumber := e.Value.Int64()
	bad := fmt.Errorf("%w: %s cannot be %s", ErrBadRequest, e.Path, e.Value)
	switch e.Path.Resource() {
	case serverLifetime:
		if !isNumber || n < 1 || n > 1<<32-1 {
			return bad
		}
		s.lifetime = n
	case serverPMin, serverPMax:
		if !isNumber || n < 0 || n > 1<<32-1 {
			return bad
		}
		if e.Path.Resource() == serverPMin {
			s.pmin = n
		} else {
			s.pmax = n
		}
	case serverStoring, serverMuteSend:
		b, ok := e.Value.Bool()
		if !ok {
			return bad
		}
		if e.Path.Resource() == serverStoring {
			s.storing = b
		} else {
			s.muted = b
		}
	case serverBinding:
		text, _ := e.Value.Text()
		if text != "U" && text != "UQ" && text != "T" && text != "UT" {
			return bad
		}
		s.binding = text
	default: // the model has it, this object does not
		return fmt.Errorf("%w: %s", ErrNotFound, e.Path)
	}
	return nil
}

// Execute implements [Object].
func (o *serverObject) Execute(ctx context.Context, path Path, _ string) error {
	if path.Resource() != serverTrigger {
		return fmt.Errorf("%w: %s", ErrNotFound, path)
	}
	AfterResponse(ctx, o.client.update)
	return nil
}
