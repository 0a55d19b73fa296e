package device

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// answerTo answers the n-th request for an image, from 0 on.
type answerTo func(w http.ResponseWriter, r *http.Request, n int, image []byte)

// half sends the first half of the image and closes the connection.
func half(w http.ResponseWriter, image []byte) {
	w.Header().Set("ETag", `"one"`)
	w.Header().Set("Content-Length", fmt.Sprint(len(image)))
	cut(w, image[:len(image)/2])
}

// whole answers as a correct server does.
func whole(w http.ResponseWriter, r *http.Request, image []byte) {
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(image))
}

// then answers the request for the second half with the given header and body, and later ones
// correctly.
func then(status int, head map[string]string, body func(image []byte) []byte) answerTo {
	return func(w http.ResponseWriter, r *http.Request, n int, image []byte) {
		switch n {
		case 0:
			half(w, image)
		case 1:
			raw(w, status, head, body(image))
		default:
			whole(w, r, image)
		}
	}
}

// always answers each request with the given header and body.
func always(status int, head map[string]string, body func(image []byte) []byte) answerTo {
	return func(w http.ResponseWriter, _ *http.Request, _ int, image []byte) { raw(w, status, head, body(image)) }
}

// raw writes a response to the connection, because net/http would correct it. Without a length it
// ends with the connection.
func raw(w http.ResponseWriter, status int, head map[string]string, body []byte) {
	conn, buffer, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(buffer, "HTTP/1.1 %d %s\r\nConnection: close\r\n", status, http.StatusText(status))
	for name, value := range head {
		for line := range strings.SplitSeq(value, "\n") {
			fmt.Fprintf(buffer, "%s: %s\r\n", name, line)
		}
	}
	buffer.WriteString("\r\n")
	buffer.Write(body)
	buffer.Flush()
}

func firstHalf(image []byte) []byte  { return image[:len(image)/2] }
func secondHalf(image []byte) []byte { return image[len(image)/2:] }
func all(image []byte) []byte        { return image }
func nothingOf([]byte) []byte        { return nil }

// zipped returns the image compressed with gzip, which the client did not request.
func zipped(image []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(image)
	z.Close()
	return b.Bytes()
}

// parts returns the second half as multipart/byteranges.
func parts(image []byte) []byte {
	return fmt.Appendf(nil, "--x\r\nContent-Range: bytes 500-999/1000\r\n\r\n%s\r\n--x--\r\n", image[500:])
}

// TestHTTPAnswers tries what servers can say about lengths and ranges. The image has 1000 bytes, of
// which 500 are stored at the second request. A download that ends as Downloaded has stored the
// whole image; every other one ends with an error.
func TestHTTPAnswers(t *testing.T) {
	const good = fsm.ResultDefault
	max63 := fmt.Sprint(int64(math.MaxInt64))
	tests := map[string]struct {
		answer answerTo
		want   fsm.Result
	}{
		"a good part":                {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000", "Content-Length": "500"}, secondHalf), good},
		"a part from before":         {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 400-999/1000", "Content-Length": "600"}, func(i []byte) []byte { return i[400:] }), good},
		"a part without a length":    {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"a part of an unknown whole": {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/*"}, secondHalf), good},
		"a part that ends early":     {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-799/1000"}, func(i []byte) []byte { return i[500:800] }), good},
		"a part with more behind it": {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-799/1000"}, func(i []byte) []byte {
			return append(i[500:800:800], make([]byte, 100)...)
		}), good},
		"a part that is cut":          {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000"}, func(i []byte) []byte { return i[500:700] }), good},
		"a part that is too long":     {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000"}, func(i []byte) []byte { return append(i[500:1000:1000], "more"...) }), good},
		"a part of the start":         {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 0-499/1000"}, firstHalf), good},
		"a part from behind":          {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 600-999/1000"}, func(i []byte) []byte { return i[600:] }), good},
		"a part of something shorter": {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-599/600"}, func(i []byte) []byte { return i[500:600] }), good},
		"a part of something longer":  {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/2000"}, secondHalf), good},
		"a part beyond its whole":     {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-1999/1000"}, secondHalf), good},
		"a part of 2^63-1":            {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/" + max63}, secondHalf), good},
		"a part of 2^64":              {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/18446744073709551616"}, secondHalf), good},
		"a part backwards":            {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 999-500/1000"}, secondHalf), good},
		"a part of no range":          {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes */1000"}, secondHalf), good},
		"a part without a range":      {then(206, map[string]string{"ETag": `"one"`, "Content-Length": "500"}, secondHalf), good},
		"a part with two ranges":      {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000\nbytes 0-499/1000"}, secondHalf), good},
		"a part in other units":       {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "lines 500-999/1000"}, secondHalf), good},
		"a part of another length":    {then(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 500-999/1000", "Content-Length": "400"}, secondHalf), good},
		"a part of another tag":       {then(206, map[string]string{"ETag": `"two"`, "Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"a part of a weak tag":        {then(206, map[string]string{"ETag": `W/"one"`, "Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"a part of two tags":          {then(206, map[string]string{"ETag": "\"one\"\n\"two\"", "Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"a part without a tag":        {then(206, map[string]string{"Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"several parts":               {then(206, map[string]string{"ETag": `"one"`, "Content-Type": "multipart/byteranges; boundary=x"}, parts), good},
		"several parts and a range":   {then(206, map[string]string{"ETag": `"one"`, "Content-Type": "Multipart/ByteRanges; boundary=x", "Content-Range": "bytes 500-999/1000"}, parts), good},
		"several parts as a whole":    {then(200, map[string]string{"ETag": `"one"`, "Content-Type": "multipart/byteranges; boundary=x", "Content-Length": "71"}, func([]byte) []byte { return make([]byte, 71) }), good},
		"the whole":                   {then(200, map[string]string{"ETag": `"one"`, "Content-Length": "1000"}, all), good},
		"a part as the whole":         {then(200, map[string]string{"ETag": `"one"`, "Content-Length": "500", "Content-Range": "bytes 500-999/1000"}, secondHalf), good},
		"the whole, cut":              {then(200, map[string]string{"ETag": `"one"`, "Content-Length": "1000"}, firstHalf), good},
		"the whole without a length":  {then(200, map[string]string{"ETag": `"one"`}, firstHalf), good},
		"416 where it is":             {then(416, map[string]string{"ETag": `"one"`, "Content-Range": "bytes */500"}, nothingOf), good},
		"416 without a tag":           {then(416, map[string]string{"Content-Range": "bytes */1000"}, nothingOf), good},
		"416 with the length":         {then(416, map[string]string{"ETag": `"one"`, "Content-Range": "bytes */1000"}, nothingOf), good},
		"416 with a smaller length":   {then(416, map[string]string{"ETag": `"one"`, "Content-Range": "bytes */499"}, nothingOf), good},
		"416 with a part":             {then(416, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 0-499/500"}, nothingOf), good},
		"416 without a range":         {then(416, map[string]string{"ETag": `"one"`}, nothingOf), good},
		"412":                         {then(412, nil, nothingOf), good},
		"304":                         {then(304, map[string]string{"ETag": `"one"`}, nothingOf), fsm.ResultInvalidURI},
		"204":                         {then(204, nil, nothingOf), good},

		"always 416":                  {always(416, map[string]string{"Content-Range": "bytes */0"}, nothingOf), fsm.ResultConnectionLost},
		"always a part":               {always(206, map[string]string{"ETag": `"one"`, "Content-Range": "bytes 0-499/1000"}, firstHalf), fsm.ResultConnectionLost},
		"always a part of anything":   {always(206, map[string]string{"Content-Range": "bytes 0-499/*"}, firstHalf), fsm.ResultConnectionLost},
		"always all of it, as a part": {always(206, map[string]string{"Content-Range": "bytes 0-999/1000"}, all), good},
		"always several parts":        {always(200, map[string]string{"Content-Type": "multipart/byteranges; boundary=x", "Content-Length": "71"}, func([]byte) []byte { return make([]byte, 71) }), fsm.ResultConnectionLost},
		"never an end":                {always(200, nil, firstHalf), fsm.ResultConnectionLost},
		"always cut":                  {always(200, map[string]string{"Content-Length": "1000"}, firstHalf), fsm.ResultConnectionLost},
		"always zipped":               {always(200, map[string]string{"Content-Encoding": "gzip"}, zipped), fsm.ResultUnsupFirmware},
		"zipped in the second line":   {always(200, map[string]string{"Content-Encoding": "identity\ngzip"}, zipped), fsm.ResultUnsupFirmware},
		"zipped in a list":            {always(200, map[string]string{"Content-Encoding": "identity, br"}, zipped), fsm.ResultUnsupFirmware},
		"identity":                    {always(200, map[string]string{"Content-Encoding": "Identity", "Content-Length": "1000"}, all), good},
		"empty":                       {always(200, map[string]string{"Content-Length": "0"}, nothingOf), fsm.ResultUnsupFirmware},
		"2^63-1 bytes":                {always(200, map[string]string{"Content-Length": max63}, all), fsm.ResultNoStorage},
		"2^62 bytes":                  {always(200, map[string]string{"Content-Length": fmt.Sprint(int64(1) << 62)}, all), fsm.ResultNoStorage},
		"2^63 bytes":                  {always(200, map[string]string{"Content-Length": "9223372036854775808"}, all), fsm.ResultConnectionLost},
		"fewer than no bytes":         {always(200, map[string]string{"Content-Length": "-1"}, all), fsm.ResultConnectionLost},
		"two lengths":                 {always(200, map[string]string{"Content-Length": "1000\n500"}, all), fsm.ResultConnectionLost},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image := testImage("2.0", 1000)
			var mu sync.Mutex
			n := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				now := n
				n++
				mu.Unlock()
				tc.answer(w, r, now, image)
			}))
			defer server.Close()
			r := newRig(t)
			r.config.Attempts = 4
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL+"/fw")))
			if tc.want != good {
				r.wait(fsm.Idle, tc.want)
				require.Eventually(t, func() bool {
					_, err := os.Stat(r.open.imagePath(slotA))
					return errors.Is(err, fs.ErrNotExist)
				}, 10*time.Second, time.Millisecond, "it goes after the state is told")
			} else {
				r.wait(fsm.Downloaded, fsm.ResultDefault)
				stored, err := os.ReadFile(r.open.imagePath(slotA))
				require.NoError(t, err)
				require.Equal(t, image, stored)
			}
			r.stop()
		})
	}
}

// TestLengthChanges lets the server change the package between two tries: no mixture is stored.
func TestLengthChanges(t *testing.T) {
	for _, tag := range []string{"", `"one"`, `W/"one"`} {
		for _, sizes := range [][2]int{{1000, 2000}, {2000, 1000}, {1000, 1016}} {
			images := [2][]byte{testImage("1.9", sizes[0]), testImage("2.0", sizes[1])}
			n := 0
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tag != "" {
					w.Header().Set("ETag", tag)
				}
				n++
				if n == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(sizes[0]))
					cut(w, images[0][:500])
					return
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(images[1]))
			}))
			r := newRig(t)
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
			require.Equal(t, "2.0", r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
			stored, err := os.ReadFile(r.open.imagePath(slotA))
			require.NoError(t, err)
			require.Equal(t, images[1], stored, "%s %v", tag, sizes)
			r.stop()
			server.Close()
		}
	}
}

// TestEmptyDownload: an empty package is refused, even if the installer accepts everything.
func TestEmptyDownload(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	r := newRig(t)
	r.slots.Inspect = inspectAnything
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(server.URL)))
	r.wait(fsm.Idle, fsm.ResultUnsupFirmware)
	r.stop()
}
