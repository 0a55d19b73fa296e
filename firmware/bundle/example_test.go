package bundle_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/otago-iot/otago/firmware/bundle"
)

func Example() {
	public, private, err := bundle.GenerateKey()
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

	r, err := bundle.NewReader(&file, public, bundle.Policy{Running: "1.0.3"})
	if err != nil {
		fmt.Println(err)
		return
	}
	image, err := io.ReadAll(r)
	fmt.Println(r.Manifest().Version, string(image), err)
	// Output: 1.1.0 new firmware <nil>
}

func ExampleVerifier() {
	public, _, err := bundle.GenerateKey()
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
