package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/bundle"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testKey returns the same key in every run, so that golden files do not change.
func testKey() (ed25519.PublicKey, ed25519.PrivateKey) {
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return private.Public().(ed25519.PublicKey), private
}

var testManifest = bundle.Manifest{Name: "sensor", Version: "1.1.0", MinVersion: "1.0"}

func sign(t testing.TB, m bundle.Manifest, image []byte) []byte {
	t.Helper()
	_, private := testKey()
	var out bytes.Buffer
	require.NoError(t, bundle.Sign(&out, private, m, bytes.NewReader(image)))
	return out.Bytes()
}

// open verifies a bundle in one write and again byte by byte; both must agree.
func open(t testing.TB, data []byte, policy bundle.Policy) (bundle.Manifest, []byte, error) {
	t.Helper()
	m, image, err := verify(bytes.NewReader(data), policy)
	slowM, slowImage, slowErr := verify(struct{ io.Reader }{iotest.OneByteReader(bytes.NewReader(data))}, policy)
	require.Equal(t, err, slowErr)
	require.Equal(t, m, slowM)
	if m == (bundle.Manifest{}) {
		require.Empty(t, image, "image bytes passed on before the manifest was accepted")
	}
	if err != nil {
		return m, nil, err
	}
	require.Equal(t, image, slowImage)
	return m, image, nil
}

func verify(r io.Reader, policy bundle.Policy) (bundle.Manifest, []byte, error) {
	public, _ := testKey()
	var image bytes.Buffer
	v := bundle.NewVerifier(&image, public, policy)
	_, err := io.Copy(v, r)
	if err == nil {
		err = v.Close()
	}
	m, _ := v.Manifest()
	return m, image.Bytes(), err
}

func TestGolden(t *testing.T) {
	image := []byte("an image\n")
	got := sign(t, testManifest, image)
	file := filepath.Join("testdata", "sensor-1.1.0.bundle")
	if *update {
		require.NoError(t, os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, want, got, "the format has changed: devices in the field would refuse it")

	m, body, err := open(t, want, bundle.Policy{Running: "1.0.9"})
	require.NoError(t, err)
	require.Equal(t, image, body)
	require.Equal(t, "sensor", m.Name)
	require.Equal(t, sha256.Sum256(image), m.SHA256)
	require.EqualValues(t, len(image), m.Size)
}

// TestManifestRules: Sign and Verifier refuse the same manifests.
func TestManifestRules(t *testing.T) {
	_, private := testKey()
	long := strings.Repeat("1", 255)
	for _, tc := range []struct {
		name, version, minVersion string
		image                     string
		good                      bool
	}{
		{"n", "1", "", "x", true},
		{"n", "1.1", "1.0", "x", true},
		{"a name, Ωmega", "v1.0-rc.1+b-7", "0", "x", true},
		{strings.Repeat("n", 255), long, "0." + long[:253], "x", true},
		{"n", "1", "", "", false},
		{"", "1", "", "x", false},
		{" ", "1", "", "x", false},
		{"n ", "1", "", "x", false},
		{" n", "1", "", "x", false},
		{"a\tb", "1", "", "x", false},
		{"a\u200bb", "1", "", "x", false},
		{"a\x00", "1", "", "x", false},
		{"a\xff", "1", "", "x", false},
		{strings.Repeat("n", 256), "1", "", "x", false},
		{"n", "", "", "x", false},
		{"n", "-1", "", "x", false},
		{"n", "2..0", "", "x", false},
		{"n", long + "1", "", "x", false},
		{"n", "1", "-1", "x", false},
		{"n", "1", "0..1", "x", false},
		{"n", "1", " ", "x", false},
		{"n", "1", "1", "x", false},
		{"n", "1", "1.0", "x", false},
		{"n", "1", "2", "x", false},
	} {
		m := bundle.Manifest{Name: tc.name, Version: tc.version, MinVersion: tc.minVersion}
		err := bundle.Sign(io.Discard, private, m, strings.NewReader(tc.image))
		require.Equal(t, tc.good, err == nil, "%+v: %v", tc, err)
		digest := sha256.Sum256([]byte(tc.image))
		raw := map[int]any{1: 1, 2: tc.name, 3: tc.version, 4: len(tc.image), 5: digest[:]}
		if tc.minVersion != "" {
			raw[6] = tc.minVersion
		}
		_, body, err := open(t, append(signRaw(t, raw), tc.image...), bundle.Policy{})
		require.Equal(t, tc.good, err == nil, "%+v: %v", tc, err)
		if tc.good {
			require.Equal(t, tc.image, string(body))
		} else {
			require.ErrorIs(t, err, bundle.ErrFormat)
		}
	}
}

// TestEveryAlteredByte flips each bit of a bundle, and cuts it at each byte: no result may pass.
func TestEveryAlteredByte(t *testing.T) {
	good := sign(t, testManifest, []byte("image"))
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			_, _, err := open(t, bad, bundle.Policy{})
			require.Error(t, err, "byte %d bit %d", i, bit)
		}
		_, _, err := open(t, good[:i], bundle.Policy{})
		require.Error(t, err, "cut at %d", i)
	}
	_, _, err := open(t, append(bytes.Clone(good), 0), bundle.Policy{})
	require.ErrorIs(t, err, bundle.ErrIntegrity)
}

func TestRefusals(t *testing.T) {
	image := []byte("image bytes")
	good := sign(t, testManifest, image)
	header := len(good) - len(image)
	_, otherKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	var foreign bytes.Buffer
	require.NoError(t, bundle.Sign(&foreign, otherKey, testManifest, bytes.NewReader(image)))
	huge := binary.BigEndian.AppendUint32([]byte(bundle.Magic), 1<<31)
	alter := func(i int) []byte {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		return bad
	}

	tests := []struct {
		name   string
		data   []byte
		policy bundle.Policy
		want   error
	}{
		{"empty", nil, bundle.Policy{}, bundle.ErrFormat},
		{"text", []byte("otago-demo-image 1.0\n"), bundle.Policy{}, bundle.ErrFormat},
		{"huge envelope", huge, bundle.Policy{}, bundle.ErrFormat},
		{"cut in header", good[:header-1], bundle.Policy{}, bundle.ErrFormat},
		{"signed by another", foreign.Bytes(), bundle.Policy{}, bundle.ErrIntegrity},
		{"image altered", alter(len(good) - 1), bundle.Policy{}, bundle.ErrIntegrity},
		{"signature altered", alter(header - 1), bundle.Policy{}, bundle.ErrIntegrity},
		{"image cut", good[:len(good)-1], bundle.Policy{}, bundle.ErrIntegrity},
		{"same version", good, bundle.Policy{Running: "1.1"}, bundle.ErrVersion},
		{"lower version", good, bundle.Policy{Running: "1.10"}, bundle.ErrVersion},
		{"minimum version", good, bundle.Policy{Running: "0.9"}, bundle.ErrVersion},
		{"another product", good, bundle.Policy{Name: "gateway"}, bundle.ErrVersion},
		{"too large", good, bundle.Policy{MaxSize: 10}, bundle.ErrTooLarge},
		{"later format", signRaw(t, map[int]any{1: 2, 9: "what comes then"}), bundle.Policy{}, bundle.ErrFormat},
		{"unknown field", signRaw(t, map[int]any{1: 1, 2: "n", 3: "1", 4: 0, 5: make([]byte, 32), 7: 0}), bundle.Policy{}, bundle.ErrFormat},
		{"size above int64", signRaw(t, map[int]any{1: 1, 2: "n", 3: "1", 4: uint64(1) << 63, 5: make([]byte, 32)}), bundle.Policy{}, bundle.ErrFormat},
		{"short digest", signRaw(t, map[int]any{1: 1, 2: "n", 3: "1", 4: 0, 5: make([]byte, 31)}), bundle.Policy{}, bundle.ErrFormat},
		{"no name", signRaw(t, map[int]any{1: 1, 3: "1", 4: 0, 5: make([]byte, 32)}), bundle.Policy{}, bundle.ErrFormat},
		{"version with line end", signRaw(t, map[int]any{1: 1, 2: "n", 3: "1\n", 4: 0, 5: make([]byte, 32)}), bundle.Policy{}, bundle.ErrFormat},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := open(t, tc.data, tc.policy)
			require.ErrorIs(t, err, tc.want)
		})
	}
}

// signRaw makes a bundle with any manifest without the package: RFC 9052, section 4.4, step by
// step.
func signRaw(t *testing.T, manifest any) []byte {
	t.Helper()
	enc, err := cbor.CoreDetEncOptions().EncMode()
	require.NoError(t, err)
	marshal := func(v any) []byte {
		b, err := enc.Marshal(v)
		require.NoError(t, err)
		return b
	}
	_, private := testKey()
	protected := marshal(map[int]any{1: -8, 16: "application/vnd.otago.bundle"})
	payload := marshal(manifest)
	signature := ed25519.Sign(private, marshal([]any{"Signature1", protected, []byte{}, payload}))
	envelope := marshal(cbor.Tag{Number: 18, Content: []any{protected, map[int]any{}, payload, signature}})
	return append(binary.BigEndian.AppendUint32([]byte(bundle.Magic), uint32(len(envelope))), envelope...)
}

// TestSpecification: the package reads a bundle that was made from the specification alone.
func TestSpecification(t *testing.T) {
	digest := sha256.Sum256([]byte("x"))
	m, _, err := open(t, append(signRaw(t, map[int]any{1: 1, 2: "n", 3: "1", 4: 1, 5: digest[:]}), 'x'), bundle.Policy{})
	require.NoError(t, err)
	require.Equal(t, "1", m.Version)
}

func TestVerifierErrorStays(t *testing.T) {
	public, _ := testKey()
	v := bundle.NewVerifier(nil, public, bundle.Policy{})
	_, err := v.Write([]byte("no"))
	require.ErrorIs(t, err, bundle.ErrFormat)
	_, err = v.Write([]byte(bundle.Magic))
	require.ErrorIs(t, err, bundle.ErrFormat)
	require.ErrorIs(t, v.Close(), bundle.ErrFormat)
	require.Nil(t, v.Header())
}

func TestSignRefusesChangingImage(t *testing.T) {
	_, private := testKey()
	err := bundle.Sign(io.Discard, private, testManifest, &changing{Reader: bytes.NewReader([]byte("one"))})
	require.ErrorContains(t, err, "changed")
	require.ErrorContains(t, bundle.Sign(io.Discard, nil, testManifest, bytes.NewReader(nil)), "private key")
}

// changing is an image that differs when it is read again.
type changing struct{ *bytes.Reader }

func (c *changing) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart {
		c.Reader = bytes.NewReader([]byte("two"))
	}
	return c.Reader.Seek(offset, whence)
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	private, public := filepath.Join(dir, "k.pem"), filepath.Join(dir, "k.pub")
	require.NoError(t, bundle.CreateKeyFiles(private, public))
	require.ErrorIs(t, bundle.CreateKeyFiles(private, public), os.ErrExist)

	priv, err := bundle.ReadPrivateKey(private)
	require.NoError(t, err)
	pub, err := bundle.ReadPublicKey(public)
	require.NoError(t, err)
	require.True(t, pub.Equal(priv.Public()))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(private)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
	}

	_, err = bundle.ReadPublicKey(private)
	require.ErrorContains(t, err, "PUBLIC KEY")
	_, err = bundle.ReadPrivateKey(public)
	require.ErrorContains(t, err, "PRIVATE KEY")
	_, err = bundle.ReadPrivateKey(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, os.ErrNotExist)

	other := filepath.Join(dir, "other.pem")
	require.Error(t, bundle.CreateKeyFiles(other, public), "the public key exists")
	require.NoFileExists(t, other)
}
