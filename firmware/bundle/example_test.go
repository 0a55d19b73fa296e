package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/otago-iot/otago/firmware/bundle"
)

func Example() {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var file bytes.Buffer
	manifest := bundle.Manifest{Name: "sensor", Version: "1.1.0", MinVersion: "1.0.0"}
	if err := bundle.Sign(&file, private, manifest, strings.NewReader("new firmware")); err != nil {
		fmt.Println(err)
		return
	}

	var image bytes.Buffer
	v := bundle.NewVerifier(&image, public, bundle.Policy{Running: "1.0.3"})
	if _, err := io.Copy(v, &file); err != nil {
		fmt.Println(err)
		return
	}
	if err := v.Close(); err != nil { // the image is good only if this returns nil
		fmt.Println(err)
		return
	}
	m, _ := v.Manifest()
	fmt.Println(m.Version, image.String())
	// Output: 1.1.0 new firmware
}

// A bundle is refused before anything of it is written.
func ExampleVerifier() {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var image bytes.Buffer
	v := bundle.NewVerifier(&image, public, bundle.Policy{})
	_, err = io.WriteString(v, "GET the first piece of something else")
	fmt.Println(errors.Is(err, bundle.ErrFormat), image.Len())
	// Output: true 0
}

func ExampleCompareVersions() {
	fmt.Println(bundle.CompareVersions("1.1.10", "1.1.1") > 0)
	fmt.Println(bundle.CompareVersions("2.0-rc.1", "2.0") < 0)
	// Output:
	// true
	// true
}
