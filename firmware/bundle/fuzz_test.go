package bundle_test

import (
	"bytes"
	"testing"

	"github.com/otago-iot/otago/firmware/bundle"
)

// FuzzVerifier writes any bytes in two pieces. Accepted bytes must equal the only bundle that Sign
// makes of their manifest and image.
func FuzzVerifier(f *testing.F) {
	good := sign(f, testManifest, []byte("image"))
	f.Add(good, 3)
	f.Add(good[:20], 0)
	f.Add([]byte(bundle.Magic+"\x00\x00\x00\x01\xd2"), 9)
	f.Add([]byte(bundle.Magic+"\x00\x00\x00\x05\xd2\x84\x9f\x9f\x9f"), 1)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		public, private := testKey()
		var image bytes.Buffer
		v := bundle.NewVerifier(&image, public, bundle.Policy{})
		cut = max(0, min(cut, len(data)))
		_, err := v.Write(data[:cut])
		if err == nil {
			_, err = v.Write(data[cut:])
		}
		if image.Len() > len(data) {
			t.Fatal("more came out than went in")
		}
		if err != nil || v.Close() != nil {
			return
		}
		m, _ := v.Manifest()
		var again bytes.Buffer
		if err := bundle.Sign(&again, private, m, bytes.NewReader(image.Bytes())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), data) {
			t.Fatalf("two bundles of one image:\n%x\n%x", data, again.Bytes())
		}
	})
}
