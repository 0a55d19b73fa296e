package bundle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// formatVersion is the only version of the format.
const formatVersion = 1

// maxText limits a name and a version, in bytes: the resources PkgName and PkgVersion of Object 5
// hold no more.
const maxText = 255

// The categories of refusal; test with [errors.Is].
var (
	// ErrFormat: these bytes are no bundle, or a bundle of a later format.
	ErrFormat = errors.New("bundle: not a bundle")
	// ErrIntegrity: another key signed it, it was altered or cut short, or bytes follow its end.
	ErrIntegrity = errors.New("bundle: integrity check failed")
	// ErrVersion: a good bundle, but [Policy.Name] or [Policy.Running] refuses it.
	ErrVersion = errors.New("bundle: not for the running version")
	// ErrTooLarge: a good bundle whose image is larger than [Policy.MaxSize].
	ErrTooLarge = errors.New("bundle: image is too large")
)

// A Manifest describes the image of a bundle.
type Manifest struct {
	// Name is the product that the image is for: 1 to 255 bytes of printable UTF-8 without spaces
	// at its ends.
	Name string
	// Version is the image's version. [CheckVersion] says which are valid, [CompareVersions] orders
	// them.
	Version string
	// MinVersion is the lowest version that must run for a device to install the image, and lower
	// than Version. Default: any version may run.
	MinVersion string
	// Size is the size of the image in bytes, at least 1. [Sign] sets it.
	Size int64
	// SHA256 is the digest of the image. [Sign] sets it.
	SHA256 [sha256.Size]byte
}

// check returns an error if the manifest is not valid.
func (m Manifest) check() error {
	if m.Name == "" || len(m.Name) > maxText || !printable(m.Name) || strings.TrimSpace(m.Name) != m.Name {
		return errors.New("name is not 1 to 255 bytes of printable text without spaces at its ends")
	}
	if err := CheckVersion(m.Version); err != nil {
		return fmt.Errorf("%.40q is no version: %w", m.Version, err)
	}
	if m.MinVersion != "" {
		if err := CheckVersion(m.MinVersion); err != nil {
			return fmt.Errorf("minimum version: %.40q is no version: %w", m.MinVersion, err)
		}
		if CompareVersions(m.MinVersion, m.Version) >= 0 {
			return fmt.Errorf("minimum version %s is not below version %s: no device would install it", m.MinVersion, m.Version)
		}
	}
	if m.Size < 1 {
		return errors.New("image is empty")
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

// wireManifest is the encoded form of a manifest.
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
	// The format's version comes first: a later format may allow what this one forbids.
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
	again, err := m.encode() // fails if check does, or if the encoding is not the deterministic one
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
