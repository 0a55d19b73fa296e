package fsm

// Delivery is how a package reaches the device. The zero value is DeliveryAuto: the machine
// chooses, by profile and resource 5/0/9. It prefers a push where the device takes both.
type Delivery string

// The ways of delivery.
const (
	DeliveryAuto Delivery = ""
	// DeliveryPush writes the package into 5/0/0.
	DeliveryPush Delivery = "push"
	// DeliveryPull writes a URI into 5/0/1; the device downloads.
	DeliveryPull Delivery = "pull"
)

var deliveries = []Delivery{DeliveryAuto, DeliveryPush, DeliveryPull}

// String returns "push", "pull" or "auto".
func (d Delivery) String() string {
	if d == DeliveryAuto {
		return "auto"
	}
	return string(d)
}

// MarshalText returns "push", "pull" or "auto"; a value that is none of the constants fails with
// [ErrUnknownName].
func (d Delivery) MarshalText() ([]byte, error) {
	return wordText(deliveries, "delivery", d, d.String())
}

// UnmarshalText accepts the names in any letter case; "" is "auto".
func (d *Delivery) UnmarshalText(text []byte) error {
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

// DeliveryMethod is the value of resource 5/0/9: the deliveries that a device accepts. Numbers
// outside 0 to 2 are kept, and shown as digits.
type DeliveryMethod int

// The delivery methods of resource 5/0/9.
const (
	PullOnly    DeliveryMethod = 0
	PushOnly    DeliveryMethod = 1
	PushAndPull DeliveryMethod = 2
)

var methodNames = []string{"pull", "push", "both"}

// Allows reports whether a device with this method accepts the delivery. A method that the registry
// does not define allows none.
func (m DeliveryMethod) Allows(d Delivery) bool {
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
func (m DeliveryMethod) String() string { return numberName(methodNames, int(m)) }

// MarshalText returns the name.
func (m DeliveryMethod) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (m *DeliveryMethod) UnmarshalText(text []byte) error {
	n, err := parseNumber(methodNames, "delivery method", string(text))
	if err != nil {
		return err
	}
	*m = DeliveryMethod(n)
	return nil
}
