package lwm2m

import (
	"strings"
	"unicode/utf8"
)

// coreLink is one link of the CoRE link format (RFC 6690): a path and attributes.
type coreLink struct {
	Target     string // absolute path as written, such as "/5/0"
	Attributes []linkAttribute
}

// linkAttribute is an attribute of a link: name, name=token, or name="quoted string".
type linkAttribute struct {
	Name     string
	Value    string // without quotes and escapes
	HasValue bool
	Quoted   bool // the value was read, or must be written, between quotes
}

// attribute returns the first attribute with the given name.
func (l coreLink) attribute(name string) (linkAttribute, bool) {
	for _, a := range l.Attributes {
		if a.Name == name {
			return a, true
		}
	}
	return linkAttribute{}, false
}

// parseLinks reads a payload in the core link format. It is strict: no spaces, targets are absolute
// paths (RFC 3986) without query and fragment, names and tokens are of RFC 6690, with < and >
// allowed in tokens, and quoted values are UTF-8 without control characters other than tabs. An
// empty payload has no links. Errors are [*FormatError]. Registrations are read by parseObjectList,
// which is not as strict.
func parseLinks(payload []byte) ([]coreLink, error) {
	p := linkParser{s: string(payload)}
	var links []coreLink
	if p.s == "" {
		return nil, nil
	}
	for {
		l, ok := p.link()
		if !ok {
			return nil, &FormatError{Format: FormatLink, Offset: p.i, Reason: p.reason}
		}
		links = append(links, l)
		if p.i == len(p.s) {
			return links, nil
		}
		if p.s[p.i] != ',' {
			return nil, &FormatError{Format: FormatLink, Offset: p.i, Reason: "a comma or a semicolon is expected"}
		}
		p.i++
	}
}

// linkOffset returns where the link with the given index begins in a payload that was parsed.
func linkOffset(payload []byte, index int) int {
	p := linkParser{s: string(payload)}
	for range index {
		p.link()
		p.i++ // the comma
	}
	return p.i
}

// linkParser is a position in a text; on failure it stands where the problem was noticed.
type linkParser struct {
	s      string
	i      int
	reason string
}

func (p *linkParser) fail(reason string) bool {
	p.reason = reason
	return false
}

func (p *linkParser) accept(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// while consumes bytes for which f holds and returns them.
func (p *linkParser) while(f func(byte) bool) string {
	start := p.i
	for p.i < len(p.s) && f(p.s[p.i]) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *linkParser) link() (l coreLink, ok bool) {
	if !p.accept('<') {
		return l, p.fail("a link starts with <")
	}
	if l.Target, ok = p.target(); !ok {
		return l, false
	}
	for p.accept(';') {
		a, ok := p.attribute()
		if !ok {
			return l, false
		}
		l.Attributes = append(l.Attributes, a)
	}
	return l, true
}

// target reads path-absolute of RFC 3986 up to and with the closing bracket.
func (p *linkParser) target() (string, bool) {
	start := p.i
	if !p.accept('/') {
		return "", p.fail("a target is an absolute path")
	}
	if p.i < len(p.s) && p.s[p.i] == '/' {
		return "", p.fail("a target has no authority")
	}
	for p.i < len(p.s) {
		switch c := p.s[p.i]; {
		case c == '>':
			target := p.s[start:p.i]
			p.i++
			return target, true
		case c == '%':
			if p.i+2 >= len(p.s) || !isHex(p.s[p.i+1]) || !isHex(p.s[p.i+2]) {
				return "", p.fail("bad percent-encoding")
			}
			p.i += 3
		case c == '/' || isPathChar(c):
			p.i++
		default:
			return "", p.fail("character not allowed in a target")
		}
	}
	return "", p.fail("target without end")
}

func (p *linkParser) attribute() (a linkAttribute, ok bool) {
	if a.Name = p.while(isNameChar); a.Name == "" {
		return a, p.fail("attribute without name")
	}
	if !p.accept('=') {
		return a, true
	}
	a.HasValue = true
	if p.accept('"') {
		a.Quoted = true
		a.Value, ok = p.quoted()
		return a, ok
	}
	if a.Value = p.while(isTokenChar); a.Value == "" {
		return a, p.fail("attribute without value")
	}
	return a, true
}

// quoted reads up to and with the closing quote.
func (p *linkParser) quoted() (string, bool) {
	start, escaped := p.i, false
	for ; p.i < len(p.s) && p.s[p.i] != '"'; p.i++ {
		if p.s[p.i] == '\\' && p.i+1 < len(p.s) {
			escaped = true
			p.i++
		}
		if c := p.s[p.i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", p.fail("control character in a quoted value")
		}
	}
	if p.i == len(p.s) {
		return "", p.fail("quoted value without end")
	}
	value := p.s[start:p.i]
	if !utf8.ValidString(value) {
		p.i = start
		return "", p.fail("quoted value is not UTF-8")
	}
	p.i++
	if escaped {
		value = unescape(value)
	}
	return value, true
}

func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// isPathChar is pchar of RFC 3986 without percent-encoding.
func isPathChar(c byte) bool {
	return isAlnum(c) || strings.IndexByte("-._~!$&'()*+,;=:@", c) >= 0
}

// isNameChar is attr-char of RFC 5987, and the star that ext-name ends in.
func isNameChar(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$&+-.^_`|~*", c) >= 0
}

// isTokenChar is ptokenchar of RFC 6690.
func isTokenChar(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'()*+-./:<=>?@[]^_`{|}~", c) >= 0
}

// appendLinks appends links in the core link format, without spaces, to dst. Targets and names are
// written as they are; values that are Quoted, or are not tokens, are written between quotes.
func appendLinks(dst []byte, links []coreLink) []byte {
	for i, l := range links {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '<')
		dst = append(dst, l.Target...)
		dst = append(dst, '>')
		for _, a := range l.Attributes {
			dst = appendLinkAttribute(dst, a)
		}
	}
	return dst
}

func appendLinkAttribute(dst []byte, a linkAttribute) []byte {
	dst = append(dst, ';')
	dst = append(dst, a.Name...)
	if !a.HasValue {
		return dst
	}
	dst = append(dst, '=')
	if !a.Quoted && isToken(a.Value) {
		return append(dst, a.Value...)
	}
	dst = append(dst, '"')
	for i := range len(a.Value) {
		if c := a.Value[i]; c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, a.Value[i])
	}
	return append(dst, '"')
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenChar(s[i]) {
			return false
		}
	}
	return s != ""
}
