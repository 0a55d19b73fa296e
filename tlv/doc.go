// Package tlv reads and writes the Type-Length-Value format of OMA LwM2M
// (application/vnd.oma.lwm2m+tlv, Content-Format 11542; LwM2M Core 1.1, section 7.4.3).
//
// A TLV body is a sequence of elements. Each has a [Kind], a 16 bit identifier and a value. There
// are four kinds:
//
//	ObjectInstance     holds MultipleResource and Resource elements
//	MultipleResource   holds ResourceInstance elements
//	ResourceInstance   holds a value
//	Resource           holds a value
//
// Elements nest three deep at most. The format carries no data types: only the definition of the
// object says whether 5 bytes are a string or a mistake.
//
// # Writing
//
// An [Encoder] appends to the caller's buffer, in the shortest form, and allocates only what append
// needs to grow that buffer. [Encoder.Bytes] returns the first error:
//
//	enc := tlv.NewEncoder(buf[:0])
//	enc.Text(tlv.Resource, 0, "Example")
//	enc.Begin(tlv.MultipleResource, 6)
//	enc.Int(tlv.ResourceInstance, 0, 1)
//	enc.Int(tlv.ResourceInstance, 1, 5)
//	enc.End()
//	body, err := enc.Bytes()
//
// # Reading
//
// [All] iterates over the elements of one level, [Element.Children] over those inside an element.
// Values are slices of the input; nothing is allocated:
//
//	for e, err := range tlv.All(body) {
//		if err != nil {
//			return err // a *tlv.SyntaxError with the offset
//		}
//		switch e.ID {
//		case 9:
//			level, err := e.Int()
//			...
//		case 6:
//			for c, err := range e.Children() {
//				...
//
// [Validate] checks a whole body, children and duplicates included, before a program uses any of
// it.
//
// # Tolerances
//
// These are accepted although they are not the shortest form or not in the specification, because
// real peers send them:
//
//   - an identifier in 16 bits that fits in 8, and a length field that is wider than needed
//     (Anjay's and Leshan's decoders accept both);
//   - bits 2-0 of the type byte set although a length field follows (the specification says to
//     ignore them).
//
// Everything else is refused: any other nesting than the above, elements of different levels side
// by side, identifier 65535, a length beyond the enclosing element, integers of other than 1, 2, 4
// or 8 bytes, floats of other than 4 or 8, booleans other than 0 and 1, text that is not UTF-8.
package tlv
