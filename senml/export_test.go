package senml

// The tests need these in addition to the exported API.

func (n Number) Add(m Number) Number { return n.add(m) }

// Equal reports whether n and m are the same number, or both not set. A decimal equals the float64
// nearest to it.
func (n Number) Equal(m Number) bool {
	if n.kind == m.kind && n.kind != float {
		return n == m
	}
	return n.IsSet() == m.IsSet() && n.Float64() == m.Float64() &&
		(n.kind == float || m.kind == float)
}

// Equal reports whether v and w are the same value.
func (v Value) Equal(w Value) bool {
	return v.kind == w.kind && v.num.Equal(w.num) && v.text == w.text && v.bool == w.bool &&
		string(v.data) == string(w.data)
}
