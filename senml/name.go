package senml

// nameState is how far a name has been scanned, so that a base name need not be
// scanned again for every record. The zero value is the empty name.
type nameState struct {
	bad    bool
	len    int   // bytes so far
	levels uint8 // LwM2M: slashes after the root
	digits uint8 // LwM2M: digits of the current identifier
	id     int32 // LwM2M: its value
}

// scanName continues st with s.
func (c *Codec) scanName(st nameState, s string) nameState {
	if c.LwM2M {
		return scanPath(st, s, c.Root)
	}
	if s == "" || st.bad {
		return st
	}
	if st.len == 0 && nameChars[s[0]] != 2 {
		st.bad = true
	}
	for i := range len(s) {
		if nameChars[s[i]] == 0 {
			st.bad = true
		}
	}
	st.len += len(s)
	return st
}

// goodName reports whether a name may end in st.
func (c *Codec) goodName(st nameState) bool {
	if st.bad || st.len == 0 || !c.LwM2M {
		return !st.bad && st.len > 0
	}
	if c.Pack == Fetch && st.levels <= 1 && st.digits == 0 {
		return st.len >= len(c.Root) // the root: everything
	}
	if st.digits == 0 || st.levels > 4 {
		return false
	}
	return st.levels >= 3 || c.Pack == Fetch
}

// nameChars has 2 for what a name may begin with and 1 for what else it may hold
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

const maxPathID = 65534

// scanPath scans "/3/0/9" below root.
func scanPath(st nameState, s, root string) nameState {
	for i := range len(s) {
		c := s[i]
		switch {
		case st.len < len(root):
			st.bad = st.bad || c != root[st.len]
		case c == '/':
			st.bad = st.bad || st.levels > 0 && st.digits == 0 || st.levels == 4
			st.levels++
			st.digits, st.id = 0, 0
		case c >= '0' && c <= '9':
			st.bad = st.bad || st.levels == 0 || st.digits == 5
			st.id = st.id*10 + int32(c-'0')
			st.digits++
			st.bad = st.bad || st.id > maxPathID
		default:
			st.bad = true
		}
		st.len++
		if st.bad {
			break
		}
	}
	return st
}

// goodLink reports whether s is an object link: two identifiers in decimal, each
// up to 65535, with a colon between.
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
