package coap

// newResponse copies what a caller wants of a response, but the payload.
func newResponse(m *wireMessage) *Response {
	r := &Response{Code: m.code, ContentFormat: formatOf(m.options, ContentFormat), Limit: -1}
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
