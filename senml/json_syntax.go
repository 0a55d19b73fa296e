package senml

import "unicode/utf8"

// skip passes over any JSON value, which may nest depth levels.
func (r *jsonReader) skip(depth int) error {
	r.space()
	if r.pos == len(r.s) {
		return ErrSyntax
	}
	switch c := r.s[r.pos]; c {
	case '"':
		r.pos++
		_, err := r.stringRest()
		return err
	case '[', '{':
		if depth == 0 {
			return ErrTooLarge
		}
		r.pos++
		return r.skipMembers(c == '{', depth-1)
	case 't', 'f', 'n':
		if r.word("true") || r.word("false") || r.word("null") {
			return nil
		}
		return ErrSyntax
	}
	if c := r.s[r.pos]; c != '-' && (c < '0' || c > '9') {
		return ErrSyntax // otherwise number would call skip again
	}
	_, err := r.number()
	if err == ErrType {
		return ErrSyntax
	}
	if err == ErrNumber {
		return nil // well-formed, and not needed
	}
	return err
}

// skipMembers passes over the members of an array or object, and the bracket or brace after them.
func (r *jsonReader) skipMembers(object bool, depth int) error {
	closing := byte(']')
	if object {
		closing = '}'
	}
	if r.token() == closing {
		return nil
	}
	r.back()
	for {
		if object {
			if r.token() != '"' {
				return r.unexpected()
			}
			if _, err := r.stringRest(); err != nil {
				return err
			}
			if r.token() != ':' {
				return r.unexpected()
			}
		}
		if err := r.skip(depth); err != nil {
			return err
		}
		switch r.token() {
		case ',':
		case closing:
			return nil
		default:
			return r.unexpected()
		}
	}
}

// token skips white space and the byte after it, which it returns. At the end of the input it
// returns 0 and passes beyond it, so that back works.
func (r *jsonReader) token() byte {
	for r.pos < len(r.s) {
		c := r.s[r.pos]
		r.pos++
		if !isSpace(c) {
			return c
		}
	}
	r.pos = len(r.s) + 1
	return 0
}

// back undoes token, except for the white space.
func (r *jsonReader) back() { r.pos-- }

// unexpected returns the error for the byte that token returned last.
func (r *jsonReader) unexpected() error {
	r.back()
	return ErrSyntax
}

// space skips white space.
func (r *jsonReader) space() {
	for r.pos < len(r.s) && isSpace(r.s[r.pos]) {
		r.pos++
	}
}

func isSpace(c byte) bool {
	const spaces = uint64(1<<' ' | 1<<'\t' | 1<<'\n' | 1<<'\r')
	return c <= ' ' && spaces>>c&1 != 0
}

// mistyped returns ErrType if any JSON value could begin here, and ErrSyntax otherwise.
func (r *jsonReader) mistyped() error {
	start := r.pos
	if err := r.skip(maxDepth); err != nil {
		return err
	}
	r.pos = start
	return ErrType
}

// text reads a string that is the value of a field.
func (r *jsonReader) text() (string, error) {
	if r.pos == len(r.s) || r.s[r.pos] != '"' {
		return "", r.mistyped()
	}
	r.pos++
	return r.stringRest()
}

// stringRest reads a string after its opening quote.
func (r *jsonReader) stringRest() (string, error) {
	s, start := r.s, r.pos
	i := start
	for i < len(s) && asciiJSON[s[i]] {
		i++
	}
	ascii := i
	for i < len(s) && plainJSON[s[i]] {
		i++
	}
	r.pos = i
	switch {
	case i == len(s) || s[i] < ' ':
		return "", ErrSyntax
	case s[i] == '\\':
		return r.unescape(start)
	case i > ascii && !utf8.ValidString(s[ascii:i]):
		r.pos = start
		return "", ErrSyntax
	}
	r.pos++
	return s[start:i], nil
}
