package lwm2m

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Entry is one value at one path, the unit that payloads are made of.
type Entry struct {
	Path Path
	// Value is of the type that the object's model gives the resource, or, for a resource without
	// model, of the type that can be known: see [DecodePayload]. [Null] removes a resource instance
	// in a Write-Composite. The zero Value stands for an object instance without resources or a
	// multiple resource without instances, which only TLV and LwM2M CBOR can express.
	Value Value
	// Time is when the resource had the value, for histories in Send and notifications; the zero
	// Time means now. Only SenML and the old JSON carry it, other formats drop it. A time before
	// 2^28 seconds since 1970, July 1978, is not encodable: on the wire such numbers are relative
	// to now.
	Time time.Time
}

// codec turns values into the payloads of one peer and back.
type codec struct {
	modelView // gives the types of resources and says which are multiple
	// root is the prefix of SenML names on a client whose objects are not at its root: "/lwm2m" for
	// "/lwm2m/3/0/9". Other formats do not carry it.
	root string
}

// AppendPayload appends entries in content format f to dst and returns the extended slice; on error
// it returns dst as it was.
//
// base is the path of the request that the payload makes or answers: a resource for text, opaque
// and CBOR, the root for composites and Send. Every entry lies at or below it. TLV and LwM2M CBOR
// sort entries by path, SenML keeps their order.
//
// Values are encoded as the type that their resource has in m: an Integer for a Float resource
// becomes a Float, as a receiver expects of TLV. A value of a resource without a model is encoded
// as it is. A nil m stands for the built-in models; of an object with several versions the newest
// counts, or with m from [Models.For] that of the device. With room in dst, entries in order and
// values of the right types, TLV, LwM2M CBOR and the formats of one value allocate nothing.
//
// Errors are [ErrUnsupportedFormat] when f is unknown or cannot carry what is at base, and
// [ErrNotEncodable] for entries that f cannot represent.
func AppendPayload(dst []byte, f ContentFormat, base Path, entries []Entry, m *Models) ([]byte, error) {
	return codec{modelView: m.view()}.appendPayload(dst, f, base, entries)
}

// DecodePayload returns the entries of a payload in content format f, in their order. base is the
// path of the request; DecodePayload refuses entries outside of it. Values get the type that their
// resource has in m, as in [AppendPayload]; it refuses a value that does not convert.
//
// # Without a model
//
// A value of a resource without a model has the same type in every format, as far as the format
// says what it is:
//
//	value             CBOR, LwM2M CBOR  SenML      old JSON  text    TLV, opaque
//	String, Corelnk   String            String     String    String  Opaque
//	whole number      Integer           Integer    Integer   String  Opaque
//	other number      Float             Float      Float     String  Opaque
//	Boolean           Boolean           Boolean    Boolean   String  Opaque
//	Time              Integer           Integer    Integer   String  Opaque
//	  with a tag      Time              Integer
//	Opaque            Opaque            Opaque     String    String  Opaque
//	Objlnk            String            Objlnk     Objlnk    String  Opaque
//
// A whole number is an Integer also if it is written as 21.0, as a binary float or as a negative
// zero, since senders of JSON write a Float of 21 as 21; above 2^63-1 it is an Unsigned Integer,
// and beyond 64 bits a Float. So the values of a Float resource may be Integers now and then:
// [Value.Float64] takes both. Nothing is guessed from the bytes or the text: "1" may be a Boolean,
// and four bytes of TLV an Integer, a Float, an Objlnk or text. [Value.As] converts them for a
// program that knows. A text in the form of a base64 string stays as it was sent.
//
// # Tolerances
//
// DecodePayload accepts the following, which senders must not do, because real ones do it:
//
//   - the content format numbers 1541 to 1543 (old clients, Leshan);
//   - TLV: an object instance around the answer to a Read of that instance
//     (OMA_LwM2M_for_Developers issue 378, Leshan);
//   - TLV: resources where an object's instances are due, taken as those of
//     instance 0 (Leshan, in answers; Anjay, in a Create that leaves the
//     choice of the instance to the client);
//   - TLV: resource instances where their multiple resource is due (Anjay);
//   - CBOR: lengths that are indefinite, and decimal fractions (Anjay);
//   - CBOR, LwM2M CBOR, SenML CBOR: tags 0 and 1 around times (Leshan);
//   - CBOR, SenML: a float where an Integer or a Time is due, if it is whole
//     (Leshan);
//   - SenML: those of package senml, among them identifiers with leading zeros
//     (Wakaama's tests);
//   - old JSON: a base name without its leading slash (Leshan).
//
// The result keeps no reference to payload. Its size is bounded by a small multiple of that of
// payload. Errors are [*FormatError], which is [ErrMalformed], or [ErrUnsupportedFormat].
func DecodePayload(f ContentFormat, base Path, payload []byte, m *Models) ([]Entry, error) {
	return codec{modelView: m.view()}.decodePayload(f, base, payload)
}

// appendPayload is [AppendPayload] for the codec's peer.
func (c codec) appendPayload(dst []byte, f ContentFormat, base Path, entries []Entry) ([]byte, error) {
	entries, err := encodable(base, entries, c.modelView)
	if err != nil {
		return dst, err
	}
	switch f = f.canonical(); f {
	case FormatText, FormatOpaque, FormatCBOR:
		return appendSingle(dst, f, base, entries)
	case FormatTLV:
		return appendTLV(dst, base, entries, c.modelView)
	case FormatLwM2MCBOR:
		return appendLwM2MCBOR(dst, entries)
	case FormatJSON:
		return appendOldJSON(dst, base, entries)
	case FormatSenMLJSON, FormatSenMLCBOR, formatSenMLETCHJSON, formatSenMLETCHCBOR:
		return appendSenML(dst, c.senml(f), base, entries)
	default:
		return dst, unsupported(f)
	}
}

// decodePayload is [DecodePayload] for the codec's peer.
func (c codec) decodePayload(f ContentFormat, base Path, payload []byte) ([]Entry, error) {
	switch f = f.canonical(); f {
	case FormatText, FormatOpaque, FormatCBOR:
		return decodeSingle(f, base, payload, c.modelView)
	case FormatTLV:
		return decodeTLV(base, payload, c.modelView)
	case FormatLwM2MCBOR:
		return decodeLwM2MCBOR(base, payload, c.modelView)
	case FormatJSON:
		return decodeOldJSON(base, payload, c.modelView)
	case FormatSenMLJSON, FormatSenMLCBOR, formatSenMLETCHJSON, formatSenMLETCHCBOR:
		return decodeSenML(c.senml(f), base, payload, c.modelView)
	default:
		return nil, unsupported(f)
	}
}

// encodable checks entries and returns them with the types of their resources, as a copy if it has
// to change one.
func encodable(base Path, entries []Entry, m modelView) ([]Entry, error) {
	types := typeLookup{view: m}
	copied := false
	for i := range entries {
		e := &entries[i]
		if !base.Contains(e.Path) {
			return nil, notEncodable(e.Path, "outside of the request's path")
		}
		was := e.Value.typ
		if was == TypeNone || was == TypeNull {
			continue
		}
		if t := types.typeOf(e.Path); t != was && t != TypeNone {
			typed, ok := e.Value.fit(t)
			if !ok {
				return nil, notEncodable(e.Path, was.String()+" where "+t.String()+" is due")
			}
			if !copied {
				entries, copied = slices.Clone(entries), true
			}
			entries[i].Value = typed
		}
		if (was == TypeString || was == TypeCoreLink) && !utf8.ValidString(e.Value.str) {
			return nil, notEncodable(e.Path, "text is not UTF-8")
		}
	}
	return entries, nil
}

func unsupported(f ContentFormat) error {
	return fmt.Errorf("%w: %s", ErrUnsupportedFormat, f)
}

// appendPaths appends the body of a Read-Composite or Observe-Composite request for paths, in a
// SenML format or LwM2M CBOR, to dst.
func (c codec) appendPaths(dst []byte, f ContentFormat, paths []Path) ([]byte, error) {
	switch f {
	case FormatLwM2MCBOR:
		return appendCBORPaths(dst, paths), nil
	case FormatSenMLJSON, FormatSenMLCBOR, formatSenMLETCHJSON, formatSenMLETCHCBOR:
		return appendSenMLPaths(dst, c.senml(f), paths)
	default:
		return dst, unsupported(f)
	}
}

// decodePaths returns the paths of a Read-Composite or Observe-Composite request, in their order.
// Errors are those of [DecodePayload].
func (c codec) decodePaths(f ContentFormat, payload []byte) ([]Path, error) {
	switch f {
	case FormatLwM2MCBOR:
		return decodeCBORPaths(payload)
	case FormatSenMLJSON, FormatSenMLCBOR, formatSenMLETCHJSON, formatSenMLETCHCBOR:
		return decodeSenMLPaths(c.senml(f), payload)
	default:
		return nil, unsupported(f)
	}
}
