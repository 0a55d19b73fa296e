package senml

// nameState is the state after scanning the start of a name, so that a base name is not scanned
// again for every record. It is small enough to stay in registers. The zero value is the empty
// name.
type nameState struct {
	len    int   // bytes so far
	levels int32 // LwM2M: slashes after the root; badName if the name is bad
	id     int32 // LwM2M: the current identifier plus 1, or 0 before its first digit
}

const badName = -1

// scanName continues st with s.
func (c *Codec) scanName(st nameState, s string) nameState {
	switch {
	case st.levels == badName:
		return st
	case !c.LwM2M:
		return scanURI(st, s)
	case st.len < len(c.Root):
		return scanRoot(st, s, c.Root)
	}
	return scanPath(st, s)
}

// goodName reports whether a name may end in st.
func (c *Codec) goodName(st nameState) bool {
	switch {
	case st.levels == badName || st.len == 0:
		return false
	case !c.LwM2M:
		return true
	case c.Pack == Fetch && st.levels <= 1 && st.id == 0:
		return st.len >= len(c.Root) // the root: everything
	}
	return st.id > 0 && (st.levels >= 3 || c.Pack == Fetch)
}

// nameChars has 2 for characters that a name may begin with, and 1 for the others that it may hold
// (RFC 8428, section 4.5.1).
var nameChars = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = 2
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = 2, 2
	}
	for _, c := range "-:./_" {
		t[c] = 1
	}
	return t
}()

// scanURI scans a name of RFC 8428, which can be part of a URI without escapes.
func scanURI(st nameState, s string) nameState {
	if st.len == 0 && s != "" && nameChars[s[0]] != 2 {
		st.levels = badName
	}
	for i := range len(s) {
		if nameChars[s[i]] == 0 {
			st.levels = badName
		}
	}
	st.len += len(s)
	return st
}

// scanRoot scans the rest of root at the start of s, and then a path.
func scanRoot(st nameState, s, root string) nameState {
	n := min(len(root)-st.len, len(s))
	if s[:n] != root[st.len:st.len+n] || !isPlain(s[:n]) {
		st.levels = badName
		return st
	}
	st.len += n
	return scanPath(st, s[n:])
}

// isPlain reports whether s is ASCII with nothing to escape in JSON.
func isPlain(s string) bool {
	for i := range len(s) {
		if !asciiJSON[s[i]] {
			return false
		}
	}
	return true
}

const maxPathID = 65534

// scanPath scans "/3/0/9". Leading zeros are accepted.
func scanPath(st nameState, s string) nameState {
	levels, id := st.levels, st.id
	for i := range len(s) {
		switch c := s[i] - '0'; {
		case c <= 9 && levels > 0 && id == 0:
			id = int32(c) + 1
		case c <= 9 && id > 0: // id-1 is the number so far
			id = (id-1)*10 + int32(c) + 1
			if id > maxPathID+1 {
				return nameState{levels: badName}
			}
		case s[i] == '/' && levels < 4 && (id > 0 || levels == 0):
			levels++
			id = 0
		default:
			return nameState{levels: badName}
		}
	}
	return nameState{len: st.len + len(s), levels: levels, id: id}
}

// goodLink reports whether s is an object link: two identifiers in decimal, each up to 65535, with
// a colon between.
func goodLink(s string) bool {
	id, digits, colons := 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == ':' && digits > 0 && colons == 0:
			id, digits = 0, 0
			colons++
		case c >= '0' && c <= '9' && digits < 5:
			id = id*10 + int(c-'0')
			digits++
			if id > maxPathID+1 {
				return false
			}
		default:
			return false
		}
	}
	return colons == 1 && digits > 0
}
