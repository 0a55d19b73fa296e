package senml

// Codec holds the options of encoding and decoding. The zero Codec is RFC 8428
// itself; a Codec is a plain value, safe for concurrent use.
type Codec struct {
	// LwM2M selects the rules of OMA LwM2M 1.1 and 1.2 (Core, section 7.4.5):
	// a name is a path of one to four identifiers, each 0 to 65534, with a leading
	// slash (or "/" alone, in a Fetch pack); a value needs at least three. The
	// value field "vlo" holds an object link. A Fetch pack with values, sums or
	// times is refused rather than stripped of them. Default: false.
	LwM2M bool

	// Root is what all names begin with, before the path, in LwM2M with an
	// alternate path: "/lwm2m" for "/lwm2m/3/0/9". It stays part of the names. It
	// consists of ASCII without control characters, quotes and backslashes; with any
	// other every name is bad. Default: none.
	Root string

	// Pack is the kind of pack. Default: [Measurements].
	Pack Pack

	// MaxRecords is how many records a pack may have when decoded; a larger one is
	// refused with [ErrTooLarge]. Default (0 or less): 10000.
	MaxRecords int

	// Unknown, if not nil, is called by the decoders for each field whose label
	// is not known, with the index of its record and its value, still encoded. For
	// a label that ends in "_" it must return nil to say that the field is
	// understood; without Unknown such a pack is refused. An error ends decoding
	// and is returned as it is. raw is valid during the call only.
	Unknown func(record int, label string, raw string) error
}

// Pack is a kind of pack.
type Pack uint8

const (
	// Measurements is a pack of RFC 8428: each record has one value, or a sum, or
	// sets base fields only.
	Measurements Pack = iota
	// Fetch is the body of a FETCH request (RFC 8790, section 3.1; LwM2M's
	// Read-Composite and Observe-Composite): records are names, with a time and
	// unit where those matter. Other fields are dropped when decoding.
	Fetch
	// Patch is the body of a PATCH or iPATCH request (RFC 8790, section 3.2;
	// LwM2M's Write-Composite in formats 320 and 322): like Measurements, and the
	// value can be [Null], which removes what the record names.
	Patch
)

const (
	defaultMaxRecords = 10000
	maxDepth          = 16 // of an unknown field
)

// AppendJSON appends pack in JSON (application/senml+json) to dst. It fails,
// with a [*SyntaxError] that names the record, on packs that a decoder with the
// same options would refuse; dst is then returned as it was.
func (c Codec) AppendJSON(dst []byte, pack []Record) ([]byte, error) {
	return c.appendJSON(dst, pack)
}

// AppendCBOR appends pack in CBOR (application/senml+cbor) to dst: definite
// lengths, and each number in the shortest form that keeps its value. It fails
// as AppendJSON does.
func (c Codec) AppendCBOR(dst []byte, pack []Record) ([]byte, error) {
	return c.appendCBOR(dst, pack)
}

// DecodeJSON appends the records of the JSON pack in data to dst. On an error,
// a [*SyntaxError], it returns dst as it was. The records do not refer to data.
func (c Codec) DecodeJSON(dst []Record, data []byte) ([]Record, error) {
	return c.decodeJSON(dst, data)
}

// DecodeCBOR appends the records of the CBOR pack in data to dst. On an error,
// a [*SyntaxError], it returns dst as it was. The records do not refer to data.
func (c Codec) DecodeCBOR(dst []Record, data []byte) ([]Record, error) {
	return c.decodeCBOR(dst, data)
}

// Resolve applies the base fields of a pack to its records, in place, and
// returns the resolved records, which have no base fields (RFC 8428, section
// 4.6; BaseVersion stays if it is not MaxVersion). Records that set base fields
// only drop out, except from a Fetch pack. Their order stays, and times that are
// relative stay relative; see [Record.Timestamp]. All names share one
// allocation. A pack that was decoded with the same Codec resolves without error;
// for any other a [*SyntaxError] names the record, and the contents of pack are
// then undefined.
func (c Codec) Resolve(pack []Record) ([]Record, error) { return c.resolve(pack) }

// AppendJSON appends pack in JSON to dst; see [Codec.AppendJSON].
func AppendJSON(dst []byte, pack []Record) ([]byte, error) { return Codec{}.AppendJSON(dst, pack) }

// AppendCBOR appends pack in CBOR to dst; see [Codec.AppendCBOR].
func AppendCBOR(dst []byte, pack []Record) ([]byte, error) { return Codec{}.AppendCBOR(dst, pack) }

// DecodeJSON appends the records in data to dst; see [Codec.DecodeJSON].
func DecodeJSON(dst []Record, data []byte) ([]Record, error) { return Codec{}.DecodeJSON(dst, data) }

// DecodeCBOR appends the records in data to dst; see [Codec.DecodeCBOR].
func DecodeCBOR(dst []Record, data []byte) ([]Record, error) { return Codec{}.DecodeCBOR(dst, data) }

// Resolve applies the base fields of a pack in place; see [Codec.Resolve].
func Resolve(pack []Record) ([]Record, error) { return Codec{}.Resolve(pack) }

func (c *Codec) maxRecords() int {
	if c.MaxRecords > 0 {
		return c.MaxRecords
	}
	return defaultMaxRecords
}
