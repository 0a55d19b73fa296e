package senml

import "strconv"

// number reads a number. Integers of 64 bits and decimals of about 18 digits are exact, others
// become the nearest float64.
func (r *jsonReader) number() (Number, error) {
	s, start := r.s, r.pos
	if n, i := shortInteger(s, start); i > start {
		r.pos = i
		return Int(n), nil
	}
	i := start
	negative := i < len(s) && s[i] == '-'
	if negative {
		i++
	}
	if i == len(s) || s[i] < '0' || s[i] > '9' {
		if negative {
			r.pos = i
			return Number{}, ErrSyntax
		}
		return Number{}, r.mistyped()
	}
	var mantissa uint64
	exact, exp := true, 0
	first := i
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		exact = exact && addDigit(&mantissa, s[i])
	}
	if i > first+1 && s[first] == '0' {
		r.pos = first + 1
		return Number{}, ErrSyntax // leading zero
	}
	if i < len(s) && s[i] == '.' {
		i++
		point := i
		for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
			exact = exact && addDigit(&mantissa, s[i])
		}
		if i == point {
			r.pos = i
			return Number{}, ErrSyntax
		}
		exp = point - i
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		e, end := exponent(s, i+1)
		if end == 0 {
			r.pos = min(i+1, len(s))
			return Number{}, ErrSyntax
		}
		exp, i = exp+e, end
	}
	r.pos = i
	if exact {
		if n, ok := exactNumber(negative, mantissa, exp); ok {
			return n, nil
		}
	}
	f, err := strconv.ParseFloat(s[start:i], 64)
	if err != nil {
		return Number{}, ErrNumber
	}
	return Float(f), nil
}

// shortInteger reads the number at i if it is a natural one of at most 18 digits, as most are. It
// returns the number and its end, or i for any other number.
func shortInteger(s string, i int) (n int64, end int) {
	for end = i; end < len(s) && s[end]-'0' <= 9; end++ {
		n = n*10 + int64(s[end]-'0')
	}
	if end == i || end == len(s) || end > i+18 || s[i] == '0' && end > i+1 ||
		s[end] == '.' || s[end]|0x20 == 'e' {
		return 0, i
	}
	return n, end
}

// addDigit adds a digit to m, and reports whether the result fits.
func addDigit(m *uint64, c byte) bool {
	const limit = (1<<64 - 1) / 10
	d := uint64(c - '0')
	if *m > limit || *m == limit && d > 5 {
		return false
	}
	*m = *m*10 + d
	return true
}

// exponent reads the digits of an exponent at i. It returns the exponent, kept small enough for an
// int, and its end; 0 if there are no digits.
func exponent(s string, i int) (exp, end int) {
	negative := false
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		negative = s[i] == '-'
		i++
	}
	first := i
	for ; i < len(s) && s[i] >= '0' && s[i] <= '9'; i++ {
		exp = min(exp*10+int(s[i]-'0'), 1<<20)
	}
	if i == first {
		return 0, 0
	}
	if negative {
		exp = -exp
	}
	return exp, i
}

// exactNumber returns ±mantissa * 10**exp if a Number can hold exactly that.
func exactNumber(negative bool, mantissa uint64, exp int) (Number, bool) {
	if exp == 0 && !negative {
		return Uint(mantissa), true
	}
	if mantissa > 1<<63-1 && !(negative && mantissa == 1<<63) {
		return Number{}, false
	}
	m := int64(mantissa)
	if negative {
		m = -m
	}
	if exp == 0 {
		return Int(m), true
	}
	n := Decimal(m, exp)
	return n, n.kind == signed && exp >= minExp || n.kind == decimal && n.isFinite()
}
