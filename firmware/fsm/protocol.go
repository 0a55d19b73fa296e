package fsm

// Protocol is how a device downloads a package, named by its URI scheme. The zero value is
// ProtocolAuto: the machine chooses.
type Protocol string

// The protocols of resource 5/0/8.
const (
	ProtocolAuto     Protocol = ""
	ProtocolCoAP     Protocol = "coap"
	ProtocolCoAPS    Protocol = "coaps"
	ProtocolHTTP     Protocol = "http"
	ProtocolHTTPS    Protocol = "https"
	ProtocolCoAPTCP  Protocol = "coap+tcp"
	ProtocolCoAPSTCP Protocol = "coaps+tcp"
)

// protocols is indexed by the number in resource 5/0/8.
var protocols = []Protocol{
	ProtocolCoAP, ProtocolCoAPS, ProtocolHTTP, ProtocolHTTPS, ProtocolCoAPTCP, ProtocolCoAPSTCP,
}

// ProtocolNumber returns the protocol that an instance of resource 5/0/8 means. It returns false
// for an unknown number, which a server ignores.
func ProtocolNumber(n int64) (Protocol, bool) {
	if n < 0 || n >= int64(len(protocols)) {
		return ProtocolAuto, false
	}
	return protocols[n], true
}

// Number returns the number of p in resource 5/0/8, or -1 if it has none.
func (p Protocol) Number() int {
	for n, known := range protocols {
		if p == known {
			return n
		}
	}
	return -1
}

// String returns the URI scheme, or "auto".
func (p Protocol) String() string {
	if p == ProtocolAuto {
		return "auto"
	}
	return string(p)
}

// MarshalText returns the URI scheme, or "auto"; a value that is none of the constants fails with
// [ErrUnknownName].
func (p Protocol) MarshalText() ([]byte, error) {
	if p == ProtocolAuto {
		return []byte("auto"), nil
	}
	return wordText(protocols, "protocol", p, string(p))
}

// UnmarshalText accepts a scheme in any letter case, "auto" or "".
func (p *Protocol) UnmarshalText(text []byte) error {
	if s := string(text); s == "" || s == "auto" {
		*p = ProtocolAuto
		return nil
	}
	word, err := parseWord(protocols, "protocol", string(text))
	if err != nil {
		return err
	}
	*p = word
	return nil
}
