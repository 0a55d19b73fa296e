package fsm

// DeliveryMode is how a package reaches the device. The zero value is DeliveryAuto: the machine
// chooses, by profile and resource 5/0/9. Where the device takes both it prefers a push, unless
// Profile.Delivery is DeliveryPull.
type DeliveryMode string

// The modes of delivery.
const (
	DeliveryAuto DeliveryMode = ""
	// DeliveryPush writes the package into 5/0/0.
	DeliveryPush DeliveryMode = "push"
	// DeliveryPull writes a URI into 5/0/1; the device downloads.
	DeliveryPull DeliveryMode = "pull"
)

var deliveries = []DeliveryMode{DeliveryAuto, DeliveryPush, DeliveryPull}

// String returns "push", "pull" or "auto".
func (d DeliveryMode) String() string {
	if d == DeliveryAuto {
		return "auto"
	}
	return string(d)
}

// MarshalText returns "push", "pull" or "auto"; a value that is none of the constants fails with
// [ErrUnknownName].
func (d DeliveryMode) MarshalText() ([]byte, error) {
	return wordText(deliveries, "delivery", d, d.String())
}

// UnmarshalText accepts the names in any letter case; "" is "auto".
func (d *DeliveryMode) UnmarshalText(text []byte) error {
	if s := string(text); s == "" || s == "auto" {
		*d = DeliveryAuto
		return nil
	}
	word, err := parseWord(deliveries[1:], "delivery", string(text))
	if err != nil {
		return err
	}
	*d = word
	return nil
}

// DeliverySupport is the value of resource 5/0/9, Firmware Update Delivery Method: the modes of
// delivery that a device accepts. Numbers outside 0 to 2 are kept, and shown as digits.
type DeliverySupport int

// The delivery methods of resource 5/0/9.
const (
	PullOnly    DeliverySupport = 0
	PushOnly    DeliverySupport = 1
	PushAndPull DeliverySupport = 2
)

var methodNames = []string{"pull", "push", "both"}

// allows reports whether a device with this method accepts the delivery. A method that the registry
// does not define allows none.
func (m DeliverySupport) allows(d DeliveryMode) bool {
	switch d {
	case DeliveryPush:
		return m == PushOnly || m == PushAndPull
	case DeliveryPull:
		return m == PullOnly || m == PushAndPull
	default:
		return false
	}
}

// String returns "pull", "push", "both", or the number.
func (m DeliverySupport) String() string { return numberName(methodNames, int(m)) }

// MarshalText returns the name.
func (m DeliverySupport) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (m *DeliverySupport) UnmarshalText(text []byte) error {
	n, err := parseNumber(methodNames, "delivery method", string(text))
	if err != nil {
		return err
	}
	*m = DeliverySupport(n)
	return nil
}
