// Package senml reads and writes Sensor Measurement Lists (SenML, RFC 8428) in JSON and CBOR, with
// the FETCH and PATCH packs of RFC 8790 and the rules of OMA LwM2M.
//
// # Writing
//
// A pack is a slice of [Record] values. A [Codec] appends it to the caller's buffer, and allocates
// only what append needs to grow the buffer. The zero Codec is for RFC 8428:
//
//	var codec senml.Codec
//	pack := []senml.Record{
//		{BaseName: "urn:dev:ow:10e2073a01080063:", Name: "voltage", Unit: "V", Value: senml.Num(senml.Float(120.1))},
//		{Name: "label", Value: senml.String("Machine Room")},
//	}
//	body, err := codec.AppendJSON(nil, pack)
//
// # Reading
//
// DecodeJSON and DecodeCBOR append the records of a pack, as they stand in it, to the caller's
// slice. Resolve then applies the base fields:
//
//	records, err := codec.DecodeCBOR(records[:0], body)
//	...
//	records, err = codec.Resolve(records)
//	for _, r := range records {
//		fmt.Println(r.Name, r.Timestamp(received), r.Value)
//	}
//
// Decoded records do not refer to the input, which the caller may reuse at once. The strings of a
// pack share one copy of it: keeping one name keeps that copy. Each opaque value has its own bytes.
//
// # Numbers
//
// A [Number] is exact: an integer of 64 bits, a decimal fraction as JSON and CBOR's tag 4 have it,
// or a float64. It becomes a float64 only if the program asks for one.
//
// # Limits
//
// SenML in XML and EXI is not supported, nor are the secondary units of RFC 8798, whose packs have
// a version above 10 (RFC 9100). A SensML stream is read as one pack, when the program has received
// all of it. Records keep their order; RFC 8428 orders resolved records by time, which is left to
// the program because LwM2M gives a meaning to the order sent.
//
// A pack has at most [Codec.MaxRecords] records, an unknown field nests at most 16 deep, and
// decoding allocates in proportion to the input, never for a length that the input only claims. So
// does Resolve: a pack whose names, with their base names, take more than 32 times the size of the
// pack is neither decoded nor encoded. Base names of up to 192 bytes never exceed that.
//
// # Tolerances
//
// These are accepted although senders must not send them, because real senders do:
//
//   - JSON "vd" with padding, or in the standard base64 alphabet (Wakaama sends padding; Leshan
//     sends and accepts both);
//   - JSON numbers with an upper case exponent, "1.638435E9" (Leshan);
//   - CBOR arrays, maps and strings of indefinite length in a pack that is no stream (Anjay's
//     encoder can send such strings);
//   - CBOR integers and lengths in more bytes than needed;
//   - leading zeros in the identifiers of an LwM2M path, "/67/0/00" (Wakaama's tests have them);
//   - an empty pack (LwM2M's answer for an empty instance, and RFC 8790's for no match);
//   - CBOR tags 0 and 1 around numbers that are times, for LwM2M (Leshan has them in other
//     formats);
//   - integral numbers written as fractions or floats, "20.0" or 0xf94d00, in place of an integer
//     (Leshan).
//
// Everything else is refused with a [*SyntaxError] that says where. Examples are bad UTF-8, NaN and
// infinities, a label twice in a record, no value or two, an unknown label that ends in "_", a
// version above 10, and integer labels that RFC 8428 does not define. Other unknown labels are
// ignored, as the RFC demands.
package senml
