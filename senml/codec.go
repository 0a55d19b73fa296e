package senml

// Codec encodes and decodes packs. The zero Codec is for RFC 8428. A Codec is a plain value, safe
// for concurrent use.
type Codec struct {
	// LwM2M selects the rules of OMA LwM2M 1.1 and 1.2 (Core, section 7.4.5): a name is a path of
	// one to four identifiers, each 0 to 65534, with a leading slash (or "/" alone, in a Fetch
	// pack); a value needs at least three. The value field "vlo" holds an object link. A Fetch pack
	// with values, sums or times is refused; RFC 8790 drops them. Default: false.
	LwM2M bool

	// Root is the beginning of all names, before the path, for LwM2M with an alternate path:
	// "/lwm2m" for "/lwm2m/3/0/9". It stays part of the names. It may have ASCII characters except
	// control characters, quotes and backslashes; with others every name is bad. Default: none.
	Root string

	// Pack is the kind of pack. Default: [Measurements].
	Pack Pack

	// MaxRecords limits the records of a pack to decode; a larger pack is refused with
	// [ErrTooLarge]. Default (0 or less): 10000.
	MaxRecords int
}

// Pack is a kind of pack.
type Pack uint8

const (
	// Measurements is a pack of RFC 8428: each record has one value, or a sum, or only base fields.
	Measurements Pack = iota
	// Fetch is the body of a FETCH request (RFC 8790, section 3.1; LwM2M's Read-Composite and
	// Observe-Composite): records are names, with a time and unit if those matter. Decoding drops
	// other fields.
	Fetch
	// Patch is the body of a PATCH or iPATCH request (RFC 8790, section 3.2; LwM2M's
	// Write-Composite in formats 320 and 322): like Measurements, but a value may be [Null], which
	// removes what the record names.
	Patch
)

const (
	defaultMaxRecords = 10000
	maxDepth          = 16 // of an unknown field
)

func (c *Codec) maxRecords() int {
	if c.MaxRecords > 0 {
		return c.MaxRecords
	}
	return defaultMaxRecords
}
