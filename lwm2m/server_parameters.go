package lwm2m

import (
	"cmp"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxEndpoint     = 255
	maxBinding      = 16
	maxSMS          = 64
	maxProfile      = 64
	defaultLifetime = 86400 // s, of a Register without lt
)

// parameters are the query of a Register or an Update, checked one by one.
type parameters struct {
	endpoint string
	lifetime *uint32 // s, 0 for one without end; nil: not given
	version  string  // "": not given
	binding  string  // "": not given
	queue    bool
	sms      string
	profile  string
	further  map[string]string // that LwM2M does not define, nil for none
}

// parseParameters reads the Uri-Query options of a Register or an Update. It refuses a name with
// two values, and ignores a parameter without a name. It trims NUL and line ends at the end of a
// value, and blanks and quotes around lt, lwm2m and b.
func parseParameters(queries []string) (p parameters, err error) {
	seen := make(map[string]string, len(queries))
	for _, q := range queries {
		name, value, _ := strings.Cut(strings.TrimRight(q, "\x00\r\n"), "=")
		if name == "" {
			continue
		}
		if before, ok := seen[name]; ok && before != value {
			return p, fmt.Errorf("%w: %.20q given twice", ErrBadRequest, name)
		}
		seen[name] = value
		switch name {
		case "lt", "lwm2m", "b":
			value = strings.Trim(value, blanks+`"`)
		}
		switch name {
		case "ep":
			p.endpoint, err = parseEndpoint(value)
		case "lt":
			var lt uint32
			lt, err = parseLifetime(value)
			p.lifetime = &lt
		case "lwm2m":
			p.version = value
		case "b":
			p.binding, err = parseBinding(value)
		case "Q":
			p.queue = true
		case "sms":
			p.sms, err = value, checkText("sms", value, maxSMS)
		case "pid":
			p.profile, err = value, checkText("pid", value, maxProfile)
		default:
			if p.further == nil {
				p.further = make(map[string]string)
			}
			p.further[name] = value
		}
		if err != nil {
			return p, err
		}
	}
	return p, checkFurther(p.further)
}

// parseEndpoint does not decode a name: an option of a message is text, and only the URI that it
// may come from is percent-encoded (RFC 7252 section 6.4).
func parseEndpoint(value string) (string, error) {
	if strings.TrimSpace(value) == "" {
		return "", fmt.Errorf("%w: ep is empty", ErrBadRequest)
	}
	return value, checkEndpoint(value)
}

// checkEndpoint refuses what is no name of an endpoint. URIs have names as segments of their paths,
// and there "." and ".." mean something else, however they are encoded.
func checkEndpoint(name string) error {
	if name == "." || name == ".." {
		return fmt.Errorf("%w: ep is %s, which no URI can have in its path", ErrBadRequest, name)
	}
	return checkText("ep", name, maxEndpoint)
}

// checkText refuses text that is too long, not UTF-8 or not printable.
func checkText(name, s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%w: %s is longer than %d bytes", ErrBadRequest, name, limit)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w: %s has characters that cannot be seen, or is not UTF-8", ErrBadRequest, name)
	}
	return nil
}

// parseLifetime reads lt. 0 is a lifetime without end (LwM2M 1.2, Server object), whatever the
// version: nothing else can be meant.
func parseLifetime(value string) (uint32, error) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%w: lt is not a number of seconds", ErrBadRequest)
	}
	return uint32(n), nil
}

func parseBinding(value string) (string, error) {
	value = strings.ToUpper(value)
	for _, c := range []byte(value) {
		if c < 'A' || c > 'Z' {
			return "", fmt.Errorf("%w: b is not a list of letters", ErrBadRequest)
		}
	}
	if len(value) > maxBinding {
		return "", fmt.Errorf("%w: b has more than %d letters", ErrBadRequest, maxBinding)
	}
	return value, nil
}

// parseLwM2MVersion reads the parameter lwm2m of a Register.
func parseLwM2MVersion(value string) (Version, error) {
	if value == "" {
		return Version{Major: 1}, nil
	}
	v, err := parseLooseVersion(value)
	if err != nil {
		return Version{}, fmt.Errorf("%w: lwm2m is not a version", ErrBadRequest)
	}
	if v.Major != 1 || v.Minor > 2 {
		return Version{}, fmt.Errorf("%w: LwM2M %s is not supported", ErrPreconditionFailed, v)
	}
	return v, nil
}

// applyTo makes the changes that an Update asks for.
func (p parameters) applyTo(reg *Registration, links string) error {
	if p.lifetime != nil {
		reg.Lifetime = time.Duration(*p.lifetime) * time.Second
	}
	if p.binding != "" {
		reg.Binding = p.binding
		if reg.Version == (Version{Major: 1}) {
			reg.Queue = strings.Contains(p.binding, "Q")
		}
	}
	// How a device leaves queue mode without saying Q is unclear in 1.1, so silence changes
	// nothing.
	if p.queue || strings.Contains(p.binding, "Q") {
		reg.Queue = true
	}
	reg.SMS = cmp.Or(p.sms, reg.SMS)
	reg.ProfileID = cmp.Or(p.profile, reg.ProfileID)
	reg.Links = cmp.Or(links, reg.Links)
	if len(p.further) == 0 {
		return nil
	}
	all := decodeFurther(reg.Attributes)
	maps.Copy(all, p.further)
	reg.Attributes = encodeFurther(all)
	return checkFurther(all)
}
