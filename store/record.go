package store

import (
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An Update is the record of one image on its way to one endpoint, from request to outcome. It is
// active until it has an outcome. Its methods say where it stands and how it ended; Machine has the
// details, such as the attempt, the holds and the Results of the device. [Normalize] says what its
// fields may hold.
type Update struct {
	ID       string `json:"id" record:"1"` // 26 characters that sort by creation time (a ULID)
	Endpoint string `json:"endpoint" record:"2"`
	Image    string `json:"image" record:"3,hex"`     // id of the image
	Key      string `json:"key,omitempty" record:"4"` // idempotency key of the request, "" if it had none

	// Labels are the labels of the request, by which programs find the update; see [CheckLabels].
	Labels map[string]string `json:"labels,omitempty" record:"5"`

	Machine fsm.Update `json:"machine" record:"9"`               // what the state machine knows
	Tokens  []string   `json:"tokens,omitempty" record:"10,hex"` // SHA-256, in hex, of each download token that the server issued

	Revision uint64    `json:"revision" record:"8"` // for compare-and-swap; set by the store
	Since    uint64    `json:"since" record:"7"`    // the journal's last sequence number before the update; set by the store
	Created  time.Time `json:"created" record:"6"`
	Changed  time.Time `json:"changed" record:"11"`

	// Later is what the device of an update that succeeded showed after that, if it was another
	// version. The outcome stays.
	Later Later `json:"later,omitzero" record:"12"`
}

// Later is what a device showed some time after its update had ended.
type Later struct {
	Version string    `json:"version" record:"1"` // resource 3/0/3
	Time    time.Time `json:"time" record:"2"`
}

// An Event is one line of the journal of an update.
type Event struct {
	Seq      uint64    `json:"seq" record:"1"` // set by the store
	Update   string    `json:"update" record:"2"`
	Endpoint string    `json:"endpoint" record:"3"`
	Time     time.Time `json:"time" record:"4"`
	Name     string    `json:"name" record:"5"`             // one of the Event constants of package firmware, such as "uri_accepted"
	Detail   string    `json:"detail,omitempty" record:"6"` // for people; at most MaxDetail bytes, longer ones are cut

	Phase   fsm.Phase   `json:"phase,omitzero" record:"7"` // of the update after the event
	State   fsm.State   `json:"state" record:"8"`
	Result  fsm.Result  `json:"result" record:"9"`
	Outcome fsm.Outcome `json:"outcome,omitempty" record:"10"`
}

// Active reports whether the update has not ended.
func (u Update) Active() bool { return u.Machine.Active() }

// Phase is where the server stands in the update.
func (u Update) Phase() fsm.Phase { return u.Machine.Phase }

// Outcome is how the update ended; fsm.OutcomeNone while it is active.
func (u Update) Outcome() fsm.Outcome { return u.Machine.Outcome }

// Reason is why the update ended in this way, in one word; "" while it is active.
func (u Update) Reason() fsm.Reason { return u.Machine.Reason }

// MayStill is what can still follow on the device of an update that was cancelled or timed out; ""
// for all others.
func (u Update) MayStill() fsm.MayStill { return u.Machine.MayStill }

// End is when the update ended; zero while it is active. If the record lacks that time, as one that
// a program has made may, it is the time of the last change.
func (u Update) End() time.Time {
	switch {
	case u.Active():
		return time.Time{}
	case u.Machine.Ended.IsZero():
		return u.Changed
	}
	return u.Machine.Ended
}

// Target is the version that the device is to run, as resource 3/0/3 shows it.
func (u Update) Target() string { return u.Machine.Plan.Target }

// Wait says what an active update waits for, whose time that is, and until when. It is zero for an
// update that has ended.
func (u Update) Wait() fsm.Wait { return u.Machine.Wait }

// Progress says how much of the package the device has received in the current attempt.
func (u Update) Progress() Progress {
	return Progress{Bytes: u.Machine.Bytes, Total: u.Machine.Plan.Size}
}

// Progress says how much of a package a device has received, in bytes, as far as the server knows.
// Of a download from another server it knows only whether the device holds the package.
type Progress struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
}

// An Image is one version of firmware in the repository. Its bytes are not in the store.
type Image struct {
	ID      string    `json:"id" record:"1,hex"` // 32 hex digits: the start of SHA-256 over name, version and the bytes' digest
	Name    string    `json:"name" record:"2"`
	Version string    `json:"version" record:"3"`    // resource 3/0/3 of a device that runs it
	Size    int64     `json:"size" record:"4"`       // bytes
	SHA256  string    `json:"sha256" record:"5,hex"` // of the bytes, in hex
	Created time.Time `json:"created" record:"6"`

	// Compatible says for which devices the image is made. It never changes.
	Compatible Compatible `json:"compatible,omitzero" record:"7"`
}

// Compatible says what a device must be to run an image.
type Compatible = fsm.Compatible

// A Device is what is known of one endpoint.
type Device struct {
	Endpoint     string             `json:"endpoint" record:"1"`
	Registration RegistrationRecord `json:"registration" record:"2"`
	Firmware     Firmware           `json:"firmware" record:"3"`

	// Labels are what operators and programs have said of the device; see [CheckDeviceLabels].
	// Only [PutLabels] and [DeleteDevice] change them.
	Labels map[string]string `json:"labels,omitempty" record:"4"`
	Facts  Facts             `json:"facts,omitzero" record:"5"`
}

// Facts are what a server last read of a device's Object 3, apart from the version of its firmware,
// which is in [Firmware]. An empty text means that the device has no such resource, refuses to show
// it, or shows it empty.
type Facts struct {
	Manufacturer string    `json:"manufacturer,omitempty" record:"1"` // resource 3/0/0
	Model        string    `json:"model,omitempty" record:"2"`        // resource 3/0/1
	Hardware     string    `json:"hardware,omitempty" record:"3"`     // resource 3/0/18
	Zone         string    `json:"zone,omitempty" record:"4"`         // resource 3/0/15: a name of the IANA database, if the device follows the specification
	Offset       string    `json:"offset,omitempty" record:"5"`       // resource 3/0/14: the offset from UTC, such as +02:00
	Read         time.Time `json:"read,omitzero" record:"6"`          // zero if never read

	// Basis stands for the objects and the firmware that the device had then, in a form of the
	// reader's. The facts are read again when these have changed.
	Basis string `json:"basis,omitempty" record:"7,hex"`
}

// Location returns the time zone of the device: that of Zone, or else one with the fixed Offset. It
// reports false if neither says anything that can be understood. Without the system's time zones, a
// program imports time/tzdata to know the names of zones.
func (f Facts) Location() (*time.Location, bool) {
	if f.Zone != "" && f.Zone != "Local" { // which would be that of this machine
		if zone, err := time.LoadLocation(f.Zone); err == nil {
			return zone, true
		}
	}
	offset := strings.TrimPrefix(strings.TrimPrefix(f.Offset, "UTC"), "GMT")
	if f.Offset != "" && (offset == "" || offset == "Z") {
		return time.UTC, true
	}
	for _, layout := range []string{"-07:00", "-0700", "-07"} {
		at, err := time.Parse(layout, offset)
		if err == nil {
			_, seconds := at.Zone()
			return time.FixedZone(f.Offset, seconds), true
		}
	}
	// Hours of one digit, such as UTC+2.
	if hours, err := strconv.Atoi(offset); err == nil && len(offset) == 2 && (offset[0] == '+' || offset[0] == '-') {
		return time.FixedZone(f.Offset, hours*3600), true
	}
	return nil, false
}

// Compatible returns what an image may ask for.
func (f Facts) Compatible() Compatible {
	return Compatible{Manufacturer: f.Manufacturer, Model: f.Model, Hardware: f.Hardware}
}

// A RegistrationRecord is the last registration of an endpoint, whether it is still valid or has
// ended.
type RegistrationRecord struct {
	ID           string        `json:"id" record:"1,hex"`          // the location's last segment
	Address      string        `json:"address" record:"2"`         // host:port that requests are sent to
	Local        string        `json:"local,omitempty" record:"3"` // host:port of the server that the device used, "" if not known
	Transport    string        `json:"transport" record:"4"`       // coap, coaps, coap+tcp, coaps+tcp
	Version      string        `json:"version" record:"5"`         // of LwM2M, such as 1.1
	Lifetime     time.Duration `json:"lifetime" record:"6"`
	Binding      string        `json:"binding,omitempty" record:"7"`
	Queue        bool          `json:"queue,omitempty" record:"8"` // Queue Mode
	SMS          string        `json:"sms,omitempty" record:"9"`
	ProfileID    string        `json:"profile_id,omitempty" record:"10"`    // of LwM2M 1.2
	Links        string        `json:"links,omitempty" record:"11"`         // the objects, in link format, as the device sent them
	Identity     string        `json:"identity,omitempty" record:"12"`      // name of the verified identity, "" without security
	IdentityKind string        `json:"identity_kind,omitempty" record:"13"` // psk, certificate
	Secured      bool          `json:"secured,omitempty" record:"14"`       // has ever registered with credentials; see [DeleteDevice]
	Registered   time.Time     `json:"registered" record:"15"`
	Updated      time.Time     `json:"updated" record:"16"`              // of the last Register or Update, where the lifetime begins; may lag
	LastSeen     time.Time     `json:"last_seen" record:"17"`            // may lag
	Ended        time.Time     `json:"ended,omitzero" record:"18"`       // zero while the registration is valid
	Attributes   string        `json:"attributes,omitempty" record:"19"` // further parameters of the Register, as url.ParseQuery reads them
}

// Firmware is what a server last read of an endpoint's firmware. Nil, and an empty version, mean
// that it is not known: no server has read it, or the device has no such resource, refuses to show
// it, or shows it empty.
type Firmware struct {
	State     *fsm.State           `json:"state,omitzero" record:"1"`      // resource 5/0/3
	Result    *fsm.Result          `json:"result,omitzero" record:"2"`     // resource 5/0/5
	Version   string               `json:"version,omitempty" record:"3"`   // resource 3/0/3
	Protocols []int                `json:"protocols,omitzero" record:"4"`  // resource 5/0/8; an empty list is known, and is not nil
	Delivery  *fsm.DeliverySupport `json:"delivery,omitzero" record:"5"`   // resource 5/0/9
	Component string               `json:"component,omitempty" record:"6"` // reserved for objects other than 5; empty for Object 5
	Read      time.Time            `json:"read,omitzero" record:"7"`       // zero if never read
	Composite *bool                `json:"composite,omitzero" record:"9"`  // whether it answers Read-Composite; nil until that was tried
	Auto      *bool                `json:"auto,omitzero" record:"10"`      // resource 5/0/14: it installs without Execute

	// Holds is the SHA-256, in hex, of the package that the device holds in State Downloaded, if
	// this server has proof of it, and "" otherwise. Only [PutHolds] changes it.
	Holds string `json:"holds,omitempty" record:"8,hex"`
}
