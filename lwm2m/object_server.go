package lwm2m

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// serverObject is object 1, Server, with the one instance that a client has.
type serverObject struct {
	client *Client

	mu            sync.Mutex
	seconds       int64 // lifetime
	pmin          int64 // default for observations, 0 for none
	pmax          int64 // default for observations, 0 for none
	storing       bool  // notifications while offline; see Read
	transports    string
	muted         bool
	shortServerID int64
}

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
	o := &serverObject{client: c, seconds: int64(config.Lifetime / time.Second), transports: "U", shortServerID: 1}
	if c.server.transport == TransportTCP || c.server.transport == TransportTLS {
		o.transports = "T"
	}
	return o
}

func (o *serverObject) lifetime() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seconds
}

func (o *serverObject) binding() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.transports
}

func (o *serverObject) isMuted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.muted
}

// defaults returns the attributes of observations that have none of their own.
func (o *serverObject) defaults() (a Attributes) {
	o.mu.Lock()
	defer o.mu.Unlock()
	// The values were checked when they were written.
	if o.pmin > 0 {
		_ = a.Set(AttributePMin, float64(o.pmin))
	}
	if o.pmax > 0 {
		_ = a.Set(AttributePMax, float64(o.pmax))
	}
	return a
}

// ID implements [Object].
func (o *serverObject) ID() uint16 { return 1 }

// Version implements [Object]: the mute resource is of 1.1.
func (o *serverObject) Version() string { return "1.1" }

// Instances implements [Object].
func (o *serverObject) Instances() []uint16 { return []uint16{0} }

// Resources implements [ResourceLister].
func (o *serverObject) Resources(uint16) []uint16 {
	return []uint16{serverShortID, serverLifetime, serverPMin, serverPMax, serverStoring, serverBinding, serverTrigger, serverMuteSend}
}

// Read implements [Object].
func (o *serverObject) Read(_ context.Context, path Path) ([]Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	binding := o.transports
	if o.client.config.Queue && !strings.Contains(binding, "Q") && o.client.config.Version == "1.0" {
		binding += "Q"
	}
	return selectEntries(path, []Entry{
		{Path: NewPath(1, 0, serverShortID), Value: Integer(o.shortServerID)},
		{Path: NewPath(1, 0, serverLifetime), Value: Integer(o.seconds)},
		{Path: NewPath(1, 0, serverPMin), Value: Integer(o.pmin)},
		{Path: NewPath(1, 0, serverPMax), Value: Integer(o.pmax)},
		{Path: NewPath(1, 0, serverStoring), Value: Boolean(o.storing)},
		{Path: NewPath(1, 0, serverBinding), Value: String(binding)},
		{Path: NewPath(1, 0, serverMuteSend), Value: Boolean(o.muted)},
	})
}

// selectEntries returns the entries at and below path; none at all for a resource is ErrNotFound.
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

// Write implements [Object].
func (o *serverObject) Write(_ context.Context, _ Path, entries []Entry, _ bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := serverObject{seconds: o.seconds, pmin: o.pmin, pmax: o.pmax, storing: o.storing, transports: o.transports, muted: o.muted}
	for _, e := range entries {
		if err := next.take(e); err != nil {
			return err
		}
	}
	if next.pmax != 0 && next.pmax < next.pmin {
		return fmt.Errorf("%w: default pmax is below default pmin", ErrBadRequest)
	}
	o.seconds, o.pmin, o.pmax, o.storing, o.transports, o.muted =
		next.seconds, next.pmin, next.pmax, next.storing, next.transports, next.muted
	return nil
}

// take sets one value.
func (o *serverObject) take(e Entry) error {
	n, isNumber := e.Value.Int64()
	bad := fmt.Errorf("%w: %s cannot be %s", ErrBadRequest, e.Path, e.Value)
	switch e.Path.Resource() {
	case serverLifetime:
		if !isNumber || n < 1 || n > 1<<32-1 {
			return bad
		}
		o.seconds = n
	case serverPMin, serverPMax:
		if !isNumber || n < 0 || n > 1<<32-1 {
			return bad
		}
		if e.Path.Resource() == serverPMin {
			o.pmin = n
		} else {
			o.pmax = n
		}
	case serverStoring, serverMuteSend:
		b, ok := e.Value.Bool()
		if !ok {
			return bad
		}
		if e.Path.Resource() == serverStoring {
			o.storing = b
		} else {
			o.muted = b
		}
	case serverBinding:
		s, _ := e.Value.Text()
		if s != "U" && s != "UQ" && s != "T" && s != "UT" {
			return bad
		}
		o.transports = s
	default:
		return fmt.Errorf("%w: %s", ErrMethodNotAllowed, e.Path)
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
