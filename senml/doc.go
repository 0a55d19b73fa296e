// Package senml reads and writes Sensor Measurement Lists (SenML, RFC 8428) in
// JSON and CBOR, with the FETCH and PATCH packs of RFC 8790 and, as an option,
// the profile that OMA LwM2M makes of them.
//
// # Writing
//
// A pack is a slice of [Record] values. AppendJSON and AppendCBOR append it to
// the caller's buffer and allocate nothing but what append needs to grow it:
//
//	pack := []senml.Record{
//		{BaseName: "urn:dev:ow:10e2073a01080063:", Name: "voltage", Unit: "V", Value: senml.Num(senml.Float(120.1))},
//		{Name: "label", Value: senml.String("Machine Room")},
//	}
//	body, err := senml.AppendJSON(nil, pack)
//
// # Reading
//
// DecodeJSON and DecodeCBOR append the records of a pack, as they stand in it,
// to the caller's slice. [Resolve] then applies the base fields:
//
//	records, err := senml.DecodeCBOR(records[:0], body)
//	...
//	records, err = senml.Resolve(records)
//	for _, r := range records {
//		fmt.Println(r.Name, r.Timestamp(received), r.Value)
//	}
//
// Decoded records own their memory. Nothing in them refers to the input, which
// the caller may reuse at once; all strings of a pack share one copy of it, so
// that keeping one name keeps that copy. An opaque value has bytes of its own.
//
// # Numbers
//
// A [Number] is exact: 64 bit integers, decimal fractions as they are written
// in JSON or in CBOR's tag 4, and floating point. Conversion to float64 happens
// when asked for, not before.
//
// # Options
//
// The package's functions are the methods of the zero [Codec], which is plain
// RFC 8428. A Codec with LwM2M set takes names that are paths ("/3/0/9") and
// the value field "vlo"; one with Pack set to [Fetch] or [Patch] is for the
// packs of RFC 8790, which have no values or null ones.
//
// # Limits
//
// SenML in XML and EXI is not supported, nor are the secondary units of RFC 8798,
// whose packs have a version above 10 (RFC 9100). A SensML stream is read as far
// as it has been received whole: as one pack. Records keep the order they have in
// it; RFC 8428 wants resolved ones in the order of their times, which is the
// caller's to establish, since LwM2M gives a meaning to the order sent.
//
// A pack has at most [Codec.MaxRecords] records, a field that is skipped nests at
// most 16 deep, and decoding allocates in proportion to the input, never to a
// length that the input claims. So does Resolve: a pack whose names, after the
// base name was put before each, take more than 32 times what the pack takes is
// neither decoded nor encoded. Base names of up to 192 bytes never come to that.
//
// # Tolerances
//
// What senders must not send, and is accepted because real ones do:
//
//   - JSON "vd" with padding, or in the standard base64 alphabet (Wakaama sends
//     padding; Leshan sends and takes both);
//   - JSON numbers with an upper case exponent, "1.638435E9" (Leshan);
//   - CBOR arrays, maps and strings of indefinite length in a pack that is not
//     a stream (Anjay's encoder can send such strings);
//   - CBOR integers and lengths in more bytes than needed;
//   - leading zeros in the identifiers of an LwM2M path, "/67/0/00" (Wakaama's
//     tests have them);
//   - an empty pack (LwM2M's answer for an empty instance, and RFC 8790's for
//     no match);
//   - CBOR tags 0 and 1 around numbers that are times, for LwM2M (Leshan has them in other formats);
//   - integral numbers written as fractions or floats, "20.0" or 0xf94d00, where
//     an integer is wanted (Leshan).
//
// Everything else is refused with a [*SyntaxError] that says where: among it
// bad UTF-8, NaN and infinities, a label twice in a record, no value or two, an
// unknown label that ends in "_", a version above 10, and integer labels that
// are not RFC 8428's. Other unknown labels are ignored, as the RFC demands;
// [Codec.Unknown] can look at them.
package senml
