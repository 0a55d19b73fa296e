package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"unicode"

	"github.com/otago-iot/otago/firmware/device"
)

// magic begins an image. The version and a line feed follow.
const magic = "otago-demo-image "

// maxVersion limits the length of a version, in bytes.
const maxVersion = 255

// Image returns an image of the given version for a [Device]. It has size bytes, or more if its
// first line needs them.
func Image(version string, size int) []byte {
	image := []byte(magic + version + "\n")
	if missing := size - len(image); missing > 0 {
		rest := make([]byte, missing)
		var seed [32]byte
		copy(seed[:], version)
		_, _ = rand.NewChaCha8(seed).Read(rest) // never fails
		image = append(image, rest...)
	}
	return image
}

var errNoImage = errors.New("not a demo image: its first line is not " + magic + "VERSION")

// Inspect returns the version of an image. It is the Inspect of a [device.SlotConfig].
func Inspect(image io.Reader, _ int64) (device.PackageInfo, error) {
	line, err := bufio.NewReader(io.LimitReader(image, int64(len(magic)+maxVersion+2))).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return device.PackageInfo{}, err
	}
	version, ok := strings.CutPrefix(strings.TrimRight(line, "\r\n"), magic)
	if !ok || err != nil || version == "" || len(version) > maxVersion || strings.ContainsFunc(version, unicode.IsControl) {
		return device.PackageInfo{}, fmt.Errorf("%w: %w", device.ErrUnsupportedPackage, errNoImage)
	}
	return device.PackageInfo{Name: "otago-demo-image", Version: version}, nil
}
