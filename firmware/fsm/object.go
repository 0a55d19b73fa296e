package fsm

import "time"

// ObjectVersion is the version of Object 5 that a device offers.
type ObjectVersion uint8

// The versions of Object 5. The zero value behaves as Object10, which is what a registration
// without "ver" means.
const (
	Object10 ObjectVersion = 10 // no resources 10..14
	Object11 ObjectVersion = 11 // Cancel, Severity, Last State Change Time, Maximum Defer Period
	Object12 ObjectVersion = 12 // Automatic Upgrade at Download
)

// String returns the version as registrations spell it, such as "1.1".
func (v ObjectVersion) String() string {
	switch v {
	case Object11:
		return "1.1"
	case Object12:
		return "1.2"
	default:
		return "1.0"
	}
}

// The values of resource 5/0/11.
const (
	SeverityCritical  = 0
	SeverityMandatory = 1 // the registry's default
	SeverityOptional  = 2
)

// MaxURI is the longest Package URI, in bytes (resource 5/0/1).
const MaxURI = 255

// Object is Object 5, Firmware Update, as one device holds it. It is a plain value: comparable,
// without pointers, and stored as JSON. [NewObject] returns the object of a factory-fresh device;
// after that only [Object.Step] makes new ones.
type Object struct {
	// Version decides which of the resources 10..14 exist.
	Version ObjectVersion `json:"version,omitzero"`
	// Method is resource 5/0/9. The zero value is PullOnly.
	Method DeliverySupport `json:"method"`

	// State and Result are resources 5/0/3 and 5/0/5.
	State  State  `json:"state"`
	Result Result `json:"result"`
	// Changed is resource 5/0/12, when State changed last.
	Changed time.Time `json:"changed,omitzero"`

	// URI is resource 5/0/1. It stays after the download, until a reset, a successful update or the
	// next Write.
	URI string `json:"uri,omitzero"`
	// Delivery is how the current package comes or came; DeliveryAuto if there is none.
	Delivery DeliveryMode `json:"delivery,omitzero"`
	// Transfer numbers the transfers. Inputs of a transfer carry its number, so that the late end
	// of an aborted one changes nothing.
	Transfer uint32 `json:"transfer,omitzero"`
	// Offset counts the bytes of the package that are safely stored.
	Offset int64 `json:"offset,omitzero"`
	// ETag is the entity tag of the partial download. Without one a download starts over after a
	// reboot.
	ETag string `json:"etag,omitzero"`
	// Size is the length of the whole package in bytes, 0 while unknown.
	Size int64 `json:"size,omitzero"`
	// Complete says that all bytes are there and only Verify is left.
	Complete bool `json:"complete,omitzero"`
	// Digest is what Verify found, in the installer's notation.
	Digest string `json:"digest,omitzero"`
	// PkgName and PkgVersion are resources 5/0/6 and 5/0/7. They exist only in State Downloaded and
	// Updating.
	PkgName    string `json:"pkg_name,omitzero"`
	PkgVersion string `json:"pkg_version,omitzero"`

	// Severity is resource 5/0/11, one of the Severity constants.
	Severity uint8 `json:"severity"`
	// MaxDefer is resource 5/0/13 in seconds. 0, the default, forbids deferring.
	MaxDefer uint32 `json:"max_defer,omitzero"`
	// DeferUntil is when a deferred update starts without further asking.
	DeferUntil time.Time `json:"defer_until,omitzero"`
	// AutoUpgrade is resource 5/0/14: install without Execute.
	AutoUpgrade bool `json:"auto_upgrade,omitzero"`
}

// NewObject returns the object of a device that has never been updated: Idle, Result 0, Severity
// mandatory.
func NewObject(version ObjectVersion, method DeliverySupport) Object {
	return Object{Version: version, Method: method, Severity: SeverityMandatory}
}

// Wake returns when the shell must call Step with [InputTimer]: at the end of the defer period, or
// at once (the time of the last change) if an automatic upgrade is due. The zero time means never.
func (o Object) Wake() time.Time {
	switch {
	case o.State != Downloaded:
		return time.Time{}
	case o.Result == ResultDeferred:
		return o.DeferUntil
	case o.autoUpgradeDue():
		return o.Changed
	default:
		return time.Time{}
	}
}

func (o Object) autoUpgradeDue() bool {
	return o.State == Downloaded && o.Result == ResultDefault && o.AutoUpgrade && o.Version >= Object12
}
