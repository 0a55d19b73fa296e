package fsm

// State is the value of resource 5/0/3. Numbers outside 0 to 3 break the range of the registry;
// they are kept, and shown as digits.
type State int

// The States of Object 5.
const (
	Idle        State = 0
	Downloading State = 1
	Downloaded  State = 2
	Updating    State = 3
)

var stateNames = []string{"idle", "downloading", "downloaded", "updating"}

// String returns the name in lower case, such as "downloading".
func (s State) String() string { return numberName(stateNames, int(s)) }

// known reports whether the registry defines s.
func (s State) known() bool { return s >= Idle && s <= Updating }

// MarshalText returns the name in lower case.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (s *State) UnmarshalText(text []byte) error {
	n, err := parseNumber(stateNames, "state", string(text))
	if err != nil {
		return err
	}
	*s = State(n)
	return nil
}
