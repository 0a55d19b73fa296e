package coap

// announced is the size of the body that a response announces, -1 for none. 0 is
// what some peers say that do not know it.
func announced(m *wireMessage) int64 {
	if v, ok := Uint(m.options, Size2); ok && v > 0 {
		return int64(v)
	}
	return -1
}

// newResponse copies what a caller wants of a response, but the payload. Its
// Size is the one announced.
func newResponse(m *wireMessage) *Response {
	r := &Response{Code: m.code, ContentFormat: formatOf(m.options, ContentFormat), Limit: -1, Size: announced(m)}
	if v, ok := Uint(m.options, Size1); ok && m.code == RequestEntityTooLarge {
		r.Limit = int64(v)
	}
	size, n := 0, 0
	for _, o := range m.options {
		size += len(o.Value)
		n++
	}
	values := make([]byte, 0, size)
	for _, o := range m.options {
		switch o.ID {
		case ContentFormat, Observe, Block1, Block2, Size1, Size2:
			continue
		}
		at := len(values)
		values = append(values, o.Value...)
		v := values[at:len(values):len(values)]
		if o.ID == ETag {
			r.ETag = v
			continue
		}
		if r.Options == nil {
			r.Options = make(Options, 0, n)
		}
		r.Options = append(r.Options, Option{ID: o.ID, Value: v})
	}
	return r
}
