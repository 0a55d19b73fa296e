package lwm2m

import "strings"

// blanks are the characters that devices put around links, besides commas.
const blanks = " \t\r\n"

// trimLinks removes meaningless characters at both ends of a payload, such as the NUL of a string
// in C.
func trimLinks(payload []byte) string {
	s := strings.TrimRight(string(payload), blanks+",\x00")
	return strings.TrimLeft(strings.TrimPrefix(s, "\ufeff"), blanks+",")
}

// parseLooseLinks reads a trimmed list of links as devices in the field write them, as long as it
// is unambiguous: with blanks anywhere but in a target, commas that are missing or too many,
// attributes without value, and lists without quotes.
func parseLooseLinks(s string) (links []coreLink, err error) {
	p := linkParser{s: s}
	for p.skip(blanks + ","); p.i < len(p.s); p.skip(blanks + ",") {
		start := p.i
		l, ok := p.looseLink()
		if !ok {
			return nil, &FormatError{Format: FormatLink, Offset: p.i, Reason: p.reason}
		}
		if len(links) == maxListed {
			return nil, &FormatError{Format: FormatLink, Offset: start, Reason: "too many links"}
		}
		links = append(links, l)
	}
	return links, nil
}

// skip passes over the bytes that are in set.
func (p *linkParser) skip(set string) {
	p.while(func(c byte) bool { return strings.IndexByte(set, c) >= 0 })
}

func (p *linkParser) looseLink() (l coreLink, ok bool) {
	if !p.accept('<') {
		return l, p.fail("a link starts with <")
	}
	if l.Target, ok = p.looseTarget(); !ok {
		return l, false
	}
	for p.skip(blanks); p.accept(';'); p.skip(blanks) {
		p.skip(blanks + ";")
		if p.i == len(p.s) || p.s[p.i] == ',' || p.s[p.i] == '<' {
			break
		}
		a, ok := p.looseAttribute()
		if !ok {
			return l, false
		}
		l.Attributes = append(l.Attributes, a)
	}
	if p.i < len(p.s) && p.s[p.i] != ',' && p.s[p.i] != '<' {
		return l, p.fail("a comma or a semicolon is expected")
	}
	return l, true
}

// looseTarget reads any URI reference. A path may lack its first slash.
func (p *linkParser) looseTarget() (string, bool) {
	p.skip(blanks)
	target := p.while(func(c byte) bool { return c > ' ' && c < 0x7f && strings.IndexByte(`<>"`, c) < 0 })
	p.skip(blanks)
	if p.i == len(p.s) {
		return "", p.fail("target without end")
	}
	if !p.accept('>') {
		return "", p.fail("character not allowed in a target")
	}
	if !strings.HasPrefix(target, "/") && !strings.Contains(target, ":") {
		target = "/" + target
	}
	return target, true
}

// isLooseTokenChar excludes <, which begins the next link.
func isLooseTokenChar(c byte) bool { return isTokenChar(c) && c != '<' && c != '>' }

func (p *linkParser) looseAttribute() (a linkAttribute, ok bool) {
	if a.Name = p.while(isNameChar); a.Name == "" {
		return a, p.fail("attribute without name")
	}
	p.skip(blanks)
	if !p.accept('=') {
		return a, true
	}
	a.HasValue = true
	p.skip(blanks)
	if p.accept('"') {
		a.Quoted = true
		a.Value, ok = p.quoted()
		return a, ok
	}
	start := p.i
	p.while(isLooseTokenChar)
	for p.listGoesOn(a.Name) {
		p.skip(blanks + ",")
		p.while(isLooseTokenChar)
	}
	a.Value = p.s[start:p.i]
	return a, true
}

// listGoesOn reports whether another token of a list without quotes follows: the next link or
// attribute would begin with another character. Content formats may also be separated by commas.
func (p *linkParser) listGoesOn(name string) bool {
	next := strings.TrimLeft(p.s[p.i:], blanks)
	if next == "" || len(next) == len(p.s)-p.i && next[0] != ',' {
		return false
	}
	if name == "ct" && next[0] == ',' {
		next = strings.TrimLeft(next, blanks+",")
		return next != "" && next[0] >= '0' && next[0] <= '9'
	}
	return isLooseTokenChar(next[0])
}
