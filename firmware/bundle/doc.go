// Package bundle is a signed package format for devices that have none of their own.
//
// A bundle is an image with a signed manifest before it, so that a device knows what the image is,
// and who made it, before it stores the first byte:
//
//	offset  length  content
//	0       8       magic: 89 4F 54 41 47 4F 0D 0A ("\x89OTAGO\r\n")
//	8       4       length of the envelope, big endian, at most MaxEnvelope
//	12      n       envelope: COSE_Sign1 (RFC 9052, section 4.2), tagged 18, its payload the manifest
//	12+n    size    the image, as many bytes as the manifest says; nothing follows it
//
// The envelope is signed with Ed25519: algorithm -8 (RFC 9053, section 2.2). Its protected header
// also has the type "application/vnd.otago.bundle" (RFC 9596), so that a signature that the same
// key made for another purpose is not valid here. The manifest is a CBOR map in deterministic
// encoding (RFC 8949, section 4.2.1):
//
//	1  format version, 1
//	2  name, text
//	3  version, text
//	4  size of the image, unsigned
//	5  SHA-256 of the image, 32 bytes
//	6  minimum version that must run for a device to install the image, text; absent if any may run
//
// # Making and checking one
//
//	public, private, err := ed25519.GenerateKey(nil)
//	err = bundle.Sign(out, private, bundle.Manifest{Name: "sensor", Version: "1.1.0"}, image)
//
//	v := bundle.NewVerifier(slot, public, bundle.Policy{Running: "1.0.0"})
//	_, err = io.Copy(v, in) // writes the image to slot
//	err = v.Close()         // nil only if it is the image that was signed
//
// # Errors
//
// A device reports [ErrIntegrity] as Update Result 5, [ErrTooLarge] as 2, and [ErrFormat] and
// [ErrVersion] as 6: of the results that Object 5 allows for a package that never became
// Downloaded, only 6 says that fetching it again does not help.
package bundle
