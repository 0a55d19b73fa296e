package store

import (
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// An Update is the record of one image on its way to one endpoint, from request to outcome. It is
// active until it has an outcome. [Normalize] says what its fields may hold.
type Update struct {
	ID       string `json:"id"` // 26 characters that sort by creation time (a ULID)
	Endpoint string `json:"endpoint"`
	Image    string `json:"image"`         // id of the image
	Key      string `json:"key,omitempty"` // idempotency key of the request, "" if it had none

	// Labels are the labels of the request, by which programs find the update; see [CheckLabels].
	Labels map[string]string `json:"labels,omitempty"`

	Machine fsm.Update `json:"machine"`          // what the state machine knows
	Tokens  []string   `json:"tokens,omitempty"` // SHA-256, in hex, of each download token that the server issued

	Revision uint64    `json:"revision"` // for compare-and-swap; set by the store
	Since    uint64    `json:"since"`    // the journal's last sequence number before the update; set by the store
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
}

// An Event is one line of the journal of an update.
type Event struct {
	Seq      uint64    `json:"seq"` // set by the store
	Update   string    `json:"update"`
	Endpoint string    `json:"endpoint"`
	Time     time.Time `json:"time"`
	Name     string    `json:"name"`             // one of the Event constants of package firmware, such as "uri_accepted"
	Detail   string    `json:"detail,omitempty"` // for people; at most MaxDetail bytes, longer ones are cut

	Phase   fsm.Phase   `json:"phase,omitzero"` // of the update after the event
	State   fsm.State   `json:"state"`
	Result  fsm.Result  `json:"result"`
	Outcome fsm.Outcome `json:"outcome,omitempty"`
}

// Active reports whether the update has not ended.
func (u Update) Active() bool { return u.Machine.Active() }

// Outcome is how the update ended; fsm.OutcomeNone while it is active. Machine.Reason says why.
func (u Update) Outcome() fsm.Outcome { return u.Machine.Outcome }

// Target is the version that the device is to run, as resource 3/0/3 shows it.
func (u Update) Target() string { return u.Machine.Plan.Target }

// Wait says what an active update waits for, whose time that is, and until when. It is zero for an
// update that has ended.
func (u Update) Wait() fsm.Wait { return u.Machine.Wait }

// Progress says how much of the package the server has sent to the device in the current attempt.
func (u Update) Progress() Progress {
	return Progress{Bytes: u.Machine.Bytes, Total: u.Machine.Plan.Size}
}

// Progress says how much of a package the server has sent to a device, in bytes.
type Progress struct {
	Bytes int64 `json:"bytes"`
	Total int64 `json:"total"`
}

// An Image is one version of firmware in the repository. Its bytes are not in the store.
type Image struct {
	ID      string    `json:"id"` // 32 hex digits: the start of SHA-256 over name, version and the bytes' digest
	Name    string    `json:"name"`
	Version string    `json:"version"` // resource 3/0/3 of a device that runs it
	Size    int64     `json:"size"`    // bytes
	SHA256  string    `json:"sha256"`  // of the bytes, in hex
	Created time.Time `json:"created"`
}

// A Device is what is known of one endpoint.
type Device struct {
	Endpoint     string             `json:"endpoint"`
	Registration RegistrationRecord `json:"registration"`
	Firmware     Firmware           `json:"firmware"`
}

// A RegistrationRecord is the last registration of an endpoint, whether it is still valid or has
// ended.
type RegistrationRecord struct {
	ID           string        `json:"id"`              // the location's last segment
	Address      string        `json:"address"`         // host:port that requests are sent to
	Local        string        `json:"local,omitempty"` // host:port of the server that the device used, "" if not known
	Transport    string        `json:"transport"`       // coap, coaps, coap+tcp, coaps+tcp
	Version      string        `json:"version"`         // of LwM2M, such as 1.1
	Lifetime     time.Duration `json:"lifetime"`
	Binding      string        `json:"binding,omitempty"`
	Queue        bool          `json:"queue,omitempty"` // Queue Mode
	SMS          string        `json:"sms,omitempty"`
	ProfileID    string        `json:"profile_id,omitempty"`    // of LwM2M 1.2
	Links        string        `json:"links,omitempty"`         // the objects, in link format, as the device sent them
	Identity     string        `json:"identity,omitempty"`      // name of the verified identity, "" without security
	IdentityKind string        `json:"identity_kind,omitempty"` // psk, certificate
	Secured      bool          `json:"secured,omitempty"`       // has ever registered with credentials; see [DeleteDevice]
	Registered   time.Time     `json:"registered"`
	Updated      time.Time     `json:"updated"`        // of the last Register or Update, where the lifetime begins; may lag
	LastSeen     time.Time     `json:"last_seen"`      // may lag
	Ended        time.Time     `json:"ended,omitzero"` // zero while the registration is valid
}

// Firmware is what a server last read of an endpoint's firmware. Nil, and an empty version, mean
// that it is not known: no server has read it, or the device has no such resource, refuses to show
// it, or shows it empty.
type Firmware struct {
	State     *fsm.State           `json:"state,omitzero"`      // resource 5/0/3
	Result    *fsm.Result          `json:"result,omitzero"`     // resource 5/0/5
	Version   string               `json:"version,omitempty"`   // resource 3/0/3
	Protocols []int                `json:"protocols,omitzero"`  // resource 5/0/8; an empty list is known, and is not nil
	Delivery  *fsm.DeliverySupport `json:"delivery,omitzero"`   // resource 5/0/9
	Component string               `json:"component,omitempty"` // reserved for objects other than 5; empty for Object 5
	Read      time.Time            `json:"read,omitzero"`       // zero if never read

	// Holds is the SHA-256, in hex, of the package that the device holds in State Downloaded, if
	// this server has proof of it, and "" otherwise. Only [PutHolds] changes it.
	Holds string `json:"holds,omitempty"`
}
