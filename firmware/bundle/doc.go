// Package bundle is a signed package format for devices that have none of their own.
//
// A bundle is an image with a manifest before it, so that a device knows what it is offered, and by whom, before it keeps
// the first byte of it:
//
//	offset  length  content
//	0       8       magic: 89 4F 54 41 47 4F 0D 0A ("\x89OTAGO\r\n")
//	8       4       length of the envelope, big endian, at most MaxEnvelope
//	12      n       envelope: COSE_Sign1 (RFC 9052, section 4.2), tagged 18, its payload the manifest
//	12+n    size    the image, as many bytes as the manifest says; nothing follows it
//
// The envelope is signed with Ed25519: algorithm -8 (RFC 9053, section 2.2). Its protected header carries, beside the
// algorithm, the type "application/vnd.otago.bundle" (RFC 9596), so that no signature made for another purpose with the
// same key passes for one of these. The manifest is a CBOR map in deterministic encoding (RFC 8949, section 4.2.1):
//
//	1  format version, 1
//	2  name, text
//	3  version, text
//	4  size of the image, unsigned
//	5  SHA-256 of the image, 32 bytes
//	6  minimum version that must be running for the image to be installed, text; absent if any will do
//
// # Making and checking one
//
//	public, private, err := bundle.GenerateKey()
//	err = bundle.Sign(out, private, bundle.Manifest{Name: "sensor", Version: "1.1.0"}, image)
//
//	r, err := bundle.NewReader(in, public, bundle.Policy{Running: "1.0.0"})
//	n, err := io.Copy(slot, r) // an error if the image is not what the manifest says
//
// [Verifier] does the same for bytes that are pushed rather than read.
//
// # Errors
//
// Every refusal is one of three categories. [ErrFormat]: these bytes are no bundle, or one of a later format. [ErrIntegrity]:
// signed by somebody else, altered, cut short or with something behind its end. [ErrVersion]: a good bundle that is not for
// a device with this version. A device reports the first and the last as Update Result 6, the second as 5: of the results
// that Object 5 allows for a package that is never reported as Downloaded, 6 is the only one that says that fetching it
// again would not help.
package bundle
