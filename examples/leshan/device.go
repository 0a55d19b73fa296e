package leshan

import (
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

// The states of object 5 that the rules name.
const (
	stateIdle       = 0
	stateDownloaded = 2
	stateUpdating   = 3
)

// The resources that the rules are about.
var (
	versionPath = lwm2m.NewPath(3, 0, 3)
	uriPath     = lwm2m.NewPath(5, 0, 1)
	executePath = lwm2m.NewPath(5, 0, 2)
	statePath   = lwm2m.NewPath(5, 0, 3)
	resultPath  = lwm2m.NewPath(5, 0, 5)
)

// quietTime is how long an equal write of a Package URI joins the one that took effect while the
// device says nothing of its State. A device that says that it downloads has no such limit.
const quietTime = 10 * time.Minute

// device is what a bridge remembers of a device, over restarts too.
type device struct {
	// Registration is the ID of the registration that was posted to Django, "" if none, or its end.
	// Since is the time of that Register.
	Registration string `json:"reg,omitempty"`
	Since        int64  `json:"since,omitempty"` // ms since 1970

	// Version, State and Result are 3/0/3 as it was last posted, and 5/0/3 and 5/0/5 as they were
	// last seen; nil if never.
	Version *string `json:"version,omitempty"`
	State   *int64  `json:"state,omitempty"`
	Result  *int64  `json:"result,omitempty"`
	// Downloaded says that State 2 of the download was posted.
	Downloaded bool `json:"downloaded,omitempty"`
	// Executed says that an Execute went through, or may have, and that no verdict was posted
	// since.
	Executed bool `json:"executed,omitempty"`
	// URI is the Package URI that took effect, until its update has ended. Written is when.
	URI     string `json:"uri,omitempty"`
	Written int64  `json:"written,omitempty"` // s since 1970
	// Writing says that the write of URI is under way.
	Writing bool `json:"writing,omitempty"`
	// Moved says that State has changed since then.
	Moved bool `json:"moved,omitempty"`

	// Queue are the posts that were not begun, in their order. Begun is the one that was begun and
	// is not answered.
	Queue []post `json:"queue,omitempty"`
	Begun *post  `json:"begun,omitempty"`

	// The rest is not stored.

	recorded  int  // size of the device's last line in the journal
	bytes     int  // of Queue
	scheduled bool // is in Bridge.ready, or a worker has it
	dropped   int  // posts that were dropped since the last one that was sent
	// reading counts the Registers. onboarding says that the reads of the last one are under way;
	// held are the values that came meanwhile and wait for the version.
	reading    int
	onboarding bool
	held       []heldValue
	// observations are those that the REST API made.
	observations map[string]*lwm2m.Observation
}

// heldValue is a value of object 5.
type heldValue struct {
	path  lwm2m.Path
	value int64
	first bool
}

// sawVersion takes a version that was read, and reports whether to tell Django: Django compares any
// version with that of the active update, and ends it.
func (d *device) sawVersion(v string) bool {
	v = strings.TrimSpace(v)
	switch {
	case v == "" || !postable(v):
		return false // says nothing of what the device runs
	case d.Version != nil && *d.Version == v:
		// The version from before is the verdict only once the device is through with the install.
		if !d.Executed || d.State != nil && *d.State != stateIdle {
			return false
		}
	}
	d.Version = &v
	d.ended()
	return true
}

// sawState takes a State, and reports whether to tell Django. first says that it is the answer to a
// read or an Observe; others are notifications.
func (d *device) sawState(v int64, first bool) bool {
	before := d.State
	d.State = &v
	if before == nil || *before != v {
		if v != stateIdle {
			d.Moved = true
		} else if d.Moved {
			d.URI = ""
		}
	}
	switch {
	case v != stateDownloaded:
		if v != stateUpdating {
			d.Downloaded = false
		}
		return before == nil && !first || before != nil && *before != v
	case before == nil && d.URI == "":
		// Of which download this is, the bridge does not know: an Execute could install something
		// else than the update that Django has in mind.
		d.Downloaded = true
		return false
	case d.Downloaded || before != nil && *before == stateUpdating:
		return false
	}
	d.Downloaded = true
	return true
}

// sawResult takes a Result, and reports whether to tell Django, which ends the active update with
// any value but 0.
func (d *device) sawResult(v int64, first bool) bool {
	before := d.Result
	d.Result = &v
	if before == nil && first || before != nil && *before == v {
		return false
	}
	if v != 0 {
		d.ended()
	}
	return true
}

// ended notes that Django has got its verdict on an update.
func (d *device) ended() { d.Executed, d.URI = false, "" }

// inEffect reports whether uri was written, took effect, and is still that of the device's
// download.
func (d *device) inEffect(uri string, now time.Time) bool {
	if uri == "" || d.URI != uri {
		return false
	}
	if d.Moved && d.State != nil && *d.State != stateIdle {
		return true
	}
	return now.Unix()-d.Written < int64(quietTime/time.Second)
}
