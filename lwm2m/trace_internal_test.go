package lwm2m

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestTraceOfParts: a part of a body is not shown as text where the whole could be a Package URI,
// and nothing is shown whose path is not known.
func TestTraceOfParts(t *testing.T) {
	trace := &Trace{models: &Models{}}
	show := func(path tracedPath, block uint32, f ContentFormat) string {
		m := &tracedMessage{path: path, payload: []byte("MTIzNA"), whole: 6, options: coap.AppendUint(nil, coap.ContentFormat, uint32(f))}
		if block != 0 {
			m.options = coap.AppendUint(m.options, coap.Block1, block)
		}
		text, _, note := trace.payloadText(m, f, true)
		require.Equal(t, text == "", note != "")
		return text
	}
	uri, name := tracedPath{known: true, path: NewPath(5, 0, 1)}, tracedPath{known: true, path: NewPath(3, 0, 0)}
	require.Equal(t, "MTIzNA", show(uri, 0, FormatText), "the whole value is no URI")
	for _, block := range []uint32{0x08, 0x10, 0x18} {
		require.Empty(t, show(uri, block, FormatText))
		require.Empty(t, show(uri, block, FormatTLV))
		require.Equal(t, "4d54497a4e41", show(name, block, FormatText))
	}
	require.Empty(t, show(uri, 0, FormatTLV), "it is no TLV")
	require.Equal(t, "4d54497a4e41", show(tracedPath{known: true, path: NewPath(5, 0, 0)}, 0x08, FormatOpaque), "a package is no secret")
	require.Empty(t, show(tracedPath{}, 0, FormatTLV))
	require.Empty(t, show(tracedPath{known: true, path: NewPath(0, 0, 5)}, 0, FormatText))
}

// TestMaskText: what may be secret is replaced in URIs and paths, and nothing else is.
func TestMaskText(t *testing.T) {
	for text, want := range map[string]string{
		"Otago": "Otago", "Europe/Berlin": "Europe/Berlin", "1.2.0/b4": "1.2.0/b4", "": "",
		"http://h/fw/Zm9vYmFyYmF6cXV4MTIzNA":                 "http://h/fw/[secret]",
		`see "https:\/\/u:p@h:8\/x\/Zm9vYmFyYmF6cXV4?a=b" x`: `see "https://[secret]@h:8/x/[secret]?[secret]" x`,
		"/fw/Zm9vYmFyYmF6cXV4MTIzNA":                         "/fw/[secret]",
		"http://h/a'Zm9vYmFyYmF6cXV4MTIzNA":                  "http://h/[secret]",
		"http://h/a#Zm9vYmFyYmF6cXV4MTIzNA,b":                "http://h/[secret]",
		"</3/0>,</5/0>;ver=1.1":                              "</3/0>,</5/0>;ver=1.1",
	} {
		require.Equal(t, want, maskText(text))
	}
}
