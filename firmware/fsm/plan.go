package fsm

import (
	"encoding"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ResetForm is how the server brings a device back to State Idle.
type ResetForm string

// The reset forms.
const (
	// ResetEmptyURI writes an empty 5/0/1. It is the default: clients that do not know it refuse or
	// ignore it.
	ResetEmptyURI ResetForm = ""
	// ResetNUL writes one NUL byte into 5/0/0. Some clients take the byte for a package, so the
	// server does it only if a profile says so.
	ResetNUL ResetForm = "nul"
	// ResetNone: the client starts a download when its URI is emptied; the server never resets it.
	ResetNone ResetForm = "none"
)

// Profile is what the machine must know of one kind of client. The zero value is a client that
// follows the specification.
type Profile struct {
	// Name is shown to operators.
	Name string `json:"name,omitzero" record:"1"`
	// PathOnly: the client's host is fixed; the Package URI is only a path.
	PathOnly bool `json:"path_only,omitzero" record:"2"`
	// Reset is the reset form that the client tolerates.
	Reset ResetForm `json:"reset,omitzero" record:"3"`
	// Delivery is the preferred one if the request says auto; 5/0/9 must allow it.
	Delivery DeliveryMode `json:"delivery,omitzero" record:"4"`
	// Protocols are those of a client that has no 5/0/8. Empty means coap, as the registry says.
	Protocols []Protocol `json:"protocols,omitzero" record:"5"`
	// WriteGrace is how long the server waits before it repeats an unanswered Write of the Package
	// URI: some clients answer after the download. 0 means one minute.
	WriteGrace time.Duration `json:"write_grace,omitzero" record:"6"`
	// BlockSize is how many bytes of a package go into one message of a push: a power of two from
	// 16 to 1024, or a multiple of 1024 up to 16384. More than 1024 need TCP or TLS, and a client
	// that announces that it accepts them (RFC 8323, section 6). 0 means 1024.
	BlockSize int `json:"block_size,omitzero" record:"7"`
	// SkipTaken: the client has no cache of duplicates, and accepts the blocks of a push only in
	// order. If it answers 5.03 to a repeated block, it has the block, and the server sends the
	// next one. A client that accepts gaps would store a hole.
	SkipTaken bool `json:"skip_taken,omitzero" record:"8"`
}

// Limits bounds each phase, and holds the pauses. A zero field means its default. Time that a
// device is asleep or away is not part of a phase, except that of its restart; nor is time on hold,
// in queues of the server, or without a server.
type Limits struct {
	// Waiting bounds the time until the device is first seen, absence included. 0 means that only
	// the deadline counts.
	Waiting time.Duration `json:"waiting,omitzero" record:"1"`
	// Preparing bounds reading and resetting; pauses before a retry are not part of it. Default 30
	// min.
	Preparing time.Duration `json:"preparing,omitzero" record:"2"`
	// Transferring bounds the time without progress. Default 2 h.
	Transferring time.Duration `json:"transferring,omitzero" record:"3"`
	// Transferred bounds the time before Execute; a defer period is not part of it. Default 30 min.
	Transferred time.Duration `json:"transferred,omitzero" record:"4"`
	// Executing bounds the time from Execute to its first effect. Default 15 min.
	Executing time.Duration `json:"executing,omitzero" record:"5"`
	// Restarting bounds the time from Execute until the device is back; a device in queue mode has
	// the lifetime of its registration in addition. Default 1 h.
	Restarting time.Duration `json:"restarting,omitzero" record:"6"`
	// Verifying bounds the time from the new registration to a verdict. Default 15 min.
	Verifying time.Duration `json:"verifying,omitzero" record:"7"`

	// Settle is how long a device that is back may show its old version without a Result. A device
	// that accepted a Package URI may show no download for five times as long. Default 60 s.
	Settle time.Duration `json:"settle,omitzero" record:"8"`
	// Retry is the pause before the second attempt. It doubles with each attempt, up to 64 times
	// itself, and is up to half as much longer, by an amount that differs between updates, so that
	// devices of a fleet that failed together do not come back together. Default 15 s.
	Retry time.Duration `json:"retry,omitzero" record:"9"`
	// Poll is the first pause between two reads when no notification comes; it doubles, up to 64
	// times itself. Default 5 s.
	Poll time.Duration `json:"poll,omitzero" record:"10"`
	// Defer is how long the server waits after Result 11 of a device whose 5/0/13 cannot be read.
	// Default 1 h.
	Defer time.Duration `json:"defer,omitzero" record:"11"`
}

// The defaults of a Plan.
const (
	DefaultDeadline = 24 * time.Hour
	DefaultAttempts = 5
)

// withDefaults sets the zero fields.
func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&l.Preparing, 30*time.Minute)
	set(&l.Transferring, 2*time.Hour)
	set(&l.Transferred, 30*time.Minute)
	set(&l.Executing, 15*time.Minute)
	set(&l.Restarting, time.Hour)
	set(&l.Verifying, 15*time.Minute)
	set(&l.Settle, time.Minute)
	set(&l.Retry, 15*time.Second)
	set(&l.Poll, 5*time.Second)
	set(&l.Defer, time.Hour)
	return l
}

// Plan is what an update must reach, and how. It does not change while the update runs.
type Plan struct {
	// Target is the version that 3/0/3 shows afterwards. It must be equal, except for blanks and
	// NULs around what the device sends.
	Target string `json:"target" record:"1"`
	// Size is the length of the package in bytes, Digest its SHA-256 in hex.
	Size   int64  `json:"size" record:"2"`
	Digest string `json:"digest,omitzero" record:"3,hex"`
	// Component is reserved for objects other than 5, whose instances are components of a device.
	// It is empty for Object 5.
	Component string `json:"component,omitzero" record:"4"`
	// Verify is what proves success. Default VerifyVersion.
	Verify Verify `json:"verify" record:"5"`
	// Delivery and Protocol are what the operator asked for; auto lets the machine choose. A
	// protocol without a delivery means pull.
	Delivery DeliveryMode `json:"delivery" record:"6"`
	Protocol Protocol     `json:"protocol" record:"7"`
	// Force also updates a device that already runs the target version.
	Force bool `json:"force,omitzero" record:"8"`
	// Profile describes the client.
	Profile Profile `json:"profile,omitzero" record:"9"`
	// Deadline bounds the whole update. Default DefaultDeadline.
	Deadline time.Duration `json:"deadline,omitzero" record:"10"`
	// Attempts bounds the transfers that fail, and the Executes without effect. Default
	// DefaultAttempts.
	Attempts int `json:"attempts,omitzero" record:"11"`
	// Limits bounds the phases.
	Limits Limits `json:"limits,omitzero" record:"12"`
	// Compatible is what the device must be, unless Force is set. The machine has it read before
	// the first Write; a device that is something else gets nothing.
	Compatible Compatible `json:"compatible,omitzero" record:"13"`
}

// Compatible says what a device must be to run an image, in the words of its Object 3. An empty
// field asks for nothing. The device must have any other, byte by byte.
type Compatible struct {
	Manufacturer string `json:"manufacturer,omitempty" record:"1"` // resource 3/0/0
	Model        string `json:"model,omitempty" record:"2"`        // resource 3/0/1
	Hardware     string `json:"hardware,omitempty" record:"3"`     // resource 3/0/18
}

// Mismatch says in words what a device lacks that reports these values, or "" if the image is made
// for it. An empty value is one that the device does not report.
func (c Compatible) Mismatch(device Compatible) string {
	for _, f := range []struct{ name, want, has string }{
		{"manufacturer", c.Manufacturer, device.Manufacturer}, {"model", c.Model, device.Model}, {"hardware", c.Hardware, device.Hardware},
	} {
		switch {
		case f.want == "" || f.want == f.has:
		case f.has == "":
			return fmt.Sprintf("the image is for %s %q, and the device does not report its %s", f.name, f.want, f.name)
		default:
			return fmt.Sprintf("the image is for %s %q, and the device reports %s %q", f.name, f.want, f.name, f.has)
		}
	}
	return ""
}

// MaxLimit bounds every duration of a plan.
const MaxLimit = 365 * 24 * time.Hour

// Check returns an error if the plan is not valid: an unknown name, a duration out of bounds, a
// target that no device could show.
func (p Plan) Check() error {
	switch {
	case p.Target == "" || len(p.Target) > maxVersion || !plain(p.Target):
		return errors.New("fsm: target is no version")
	case p.Size < 0:
		return errors.New("fsm: size is negative")
	case p.Digest != "" && (len(p.Digest) != 64 || strings.Trim(p.Digest, "0123456789abcdef") != ""):
		return errors.New("fsm: digest is no SHA-256 in hex")
	case len(p.Component) > maxVersion || !plain(p.Component):
		return errors.New("fsm: component is no name")
	case p.Verify != "" && p.Verify != VerifyVersion && p.Verify != VerifyResult:
		return fmt.Errorf("%w: verify %q", ErrUnknownName, string(p.Verify))
	case !p.Compatible.plain():
		return errors.New("fsm: compatible is no name")
	case p.Attempts < 0:
		return errors.New("fsm: attempts are negative")
	case p.Deadline < 0 || p.Deadline > MaxLimit:
		return fmt.Errorf("fsm: deadline %s is out of bounds", p.Deadline)
	}
	for _, word := range []encoding.TextMarshaler{p.Delivery, p.Protocol} {
		if _, err := word.MarshalText(); err != nil {
			return err
		}
	}
	if err := p.Profile.Check(); err != nil {
		return err
	}
	return p.Limits.Check()
}

func (c Compatible) plain() bool {
	for _, s := range []string{c.Manufacturer, c.Model, c.Hardware} {
		if len(s) > maxVersion || !plain(s) {
			return false
		}
	}
	return true
}

// Check returns an error if the profile is not valid.
func (p Profile) Check() error {
	if _, err := p.Delivery.MarshalText(); err != nil {
		return err
	}
	for _, protocol := range p.Protocols {
		if protocol.Number() < 0 {
			return fmt.Errorf("%w: protocol %q", ErrUnknownName, string(protocol))
		}
	}
	switch {
	case p.Reset != ResetEmptyURI && p.Reset != ResetNUL && p.Reset != ResetNone:
		return fmt.Errorf("%w: reset %q", ErrUnknownName, string(p.Reset))
	case len(p.Protocols) > len(protocols):
		return errors.New("fsm: profile lists too many protocols")
	case len(p.Name) > maxVersion || !plain(p.Name):
		return errors.New("fsm: profile has no proper name")
	case p.BlockSize < 0 || p.BlockSize > 16<<10 || p.BlockSize > 1024 && p.BlockSize%1024 != 0,
		p.BlockSize > 0 && p.BlockSize <= 1024 && (p.BlockSize < 16 || p.BlockSize&(p.BlockSize-1) != 0):
		return fmt.Errorf("fsm: block size %d is none", p.BlockSize)
	case p.WriteGrace < 0 || p.WriteGrace > MaxLimit:
		return fmt.Errorf("fsm: write grace %s is out of bounds", p.WriteGrace)
	}
	return nil
}

// Check returns an error if a limit is negative or greater than MaxLimit.
func (l Limits) Check() error {
	for _, limit := range []struct {
		name string
		d    time.Duration
	}{
		{"Waiting", l.Waiting}, {"Preparing", l.Preparing}, {"Transferring", l.Transferring}, {"Transferred", l.Transferred},
		{"Executing", l.Executing}, {"Restarting", l.Restarting}, {"Verifying", l.Verifying},
		{"Settle", l.Settle}, {"Retry", l.Retry}, {"Poll", l.Poll}, {"Defer", l.Defer},
	} {
		if limit.d < 0 || limit.d > MaxLimit {
			return fmt.Errorf("fsm: Limits.%s: %s is not between 0 and %s", limit.name, limit.d, MaxLimit)
		}
	}
	return nil
}
