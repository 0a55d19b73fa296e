package bundle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// formatVersion is the only one there is.
const formatVersion = 1

// maxText bounds name and versions: what the resources PkgName and PkgVersion of Object 5 can show.
const maxText = 255

// The categories of refusal; test with [errors.Is].
var (
	ErrFormat    = errors.New("bundle: not a bundle")
	ErrIntegrity = errors.New("bundle: integrity check failed")
	ErrVersion   = errors.New("bundle: not for the running version")
)

// A Manifest says what the image of a bundle is.
type Manifest struct {
	// Name is what the image is for, 1 to 255 bytes of printable UTF-8.
	Name string
	// Version is the image's version, 1 to 255 bytes of printable ASCII without spaces. See [CompareVersions] for its order.
	Version string
	// MinVersion is the lowest version that must be running for the image to be installed; "" if any will do.
	MinVersion string
	// Size is the number of bytes of the image. [Sign] sets it.
	Size int64
	// SHA256 is the digest of the image. [Sign] sets it.
	SHA256 [sha256.Size]byte
}

// check is asked for when a manifest is made and when one is read.
func (m Manifest) check() error {
	if m.Name == "" || len(m.Name) > maxText || !printable(m.Name) {
		return errors.New("name is not 1 to 255 bytes of printable text")
	}
	if m.Version == "" || !validVersion(m.Version) {
		return errors.New("version is not 1 to 255 bytes of printable ASCII")
	}
	if !validVersion(m.MinVersion) {
		return errors.New("minimum version is not printable ASCII of at most 255 bytes")
	}
	if m.Size < 0 {
		return errors.New("size is negative")
	}
	return nil
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

func validVersion(s string) bool {
	if len(s) > maxText {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// wireManifest is a manifest as it is encoded.
type wireManifest struct {
	Format     uint64 `cbor:"1,keyasint"`
	Name       string `cbor:"2,keyasint"`
	Version    string `cbor:"3,keyasint"`
	Size       uint64 `cbor:"4,keyasint"`
	SHA256     []byte `cbor:"5,keyasint"`
	MinVersion string `cbor:"6,keyasint,omitempty"`
}

func (m Manifest) encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("bundle: manifest: %w", err)
	}
	return encoder.Marshal(wireManifest{
		Format: formatVersion, Name: m.Name, Version: m.Version,
		Size: uint64(m.Size), SHA256: m.SHA256[:], MinVersion: m.MinVersion,
	})
}

func decodeManifest(data []byte) (Manifest, error) {
	// The version comes first: a later format may have what this one calls wrong.
	var probe struct {
		Format uint64 `cbor:"1,keyasint"`
	}
	if err := lenient.Unmarshal(data, &probe); err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %v", ErrFormat, err)
	}
	if probe.Format != formatVersion {
		return Manifest{}, fmt.Errorf("%w: manifest of format %d, want %d", ErrFormat, probe.Format, formatVersion)
	}
	var w wireManifest
	if err := strict.Unmarshal(data, &w); err != nil {
		return Manifest{}, fmt.Errorf("%w: manifest: %v", ErrFormat, err)
	}
	m := Manifest{Name: w.Name, Version: w.Version, MinVersion: w.MinVersion, Size: int64(w.Size)}
	if len(w.SHA256) != len(m.SHA256) {
		return Manifest{}, fmt.Errorf("%w: manifest: digest of %d bytes", ErrFormat, len(w.SHA256))
	}
	copy(m.SHA256[:], w.SHA256)
	again, err := m.encode() // catches what check refuses, and encodings that are not the deterministic one
	if err != nil {
		return Manifest{}, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	if !bytes.Equal(again, data) {
		return Manifest{}, fmt.Errorf("%w: manifest is not in deterministic encoding", ErrFormat)
	}
	return m, nil
}

var (
	encoder = must(cbor.CoreDetEncOptions().EncMode())
	strict  = must(decOptions(cbor.ExtraDecErrorUnknownField).DecMode())
	lenient = must(decOptions(cbor.ExtraDecErrorNone).DecMode())
)

func decOptions(extra cbor.ExtraDecErrorCond) cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		MaxNestedLevels:   4,
		MaxArrayElements:  16,
		MaxMapPairs:       16,
		ExtraReturnErrors: extra,
		UTF8:              cbor.UTF8RejectInvalid,
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
