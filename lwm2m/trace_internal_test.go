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
		require.Equal(t, "MTIzNA", show(name, block, FormatText))
		require.Equal(t, "4d54497a4e41", show(name, block, FormatTLV))
	}
	require.Empty(t, show(uri, 0, FormatTLV), "it is no TLV")
	require.Equal(t, "4d54497a4e41", show(tracedPath{known: true, path: NewPath(5, 0, 0)}, 0x08, FormatOpaque), "a package is no secret")
	require.Empty(t, show(tracedPath{}, 0, FormatTLV))
	require.Empty(t, show(tracedPath{}, 0, FormatText))
	require.Empty(t, show(tracedPath{known: true, path: NewPath(0, 0, 5)}, 0, FormatText))
}

// TestTraceOfTexts: what is text by its format and valid UTF-8 is shown as text, at whatever path,
// and whether it is well formed or not; other bytes are digits.
func TestTraceOfTexts(t *testing.T) {
	trace := &Trace{models: &Models{}}
	show := func(path string, code coap.Code, f ContentFormat, hasFormat bool, payload string) (string, bool, string) {
		p, err := ParsePath(path)
		m := &tracedMessage{path: tracedPath{known: true, other: err != nil, path: p}, code: code, payload: []byte(payload), whole: len(payload)}
		return trace.payloadText(m, f, hasFormat)
	}
	for _, path := range []string{"/3", "/3/0", "/3/0/0", "/3/0/6/0", "/", "dp"} {
		for f, payload := range map[ContentFormat]string{
			FormatText: "Straße", formatOldText: "x y", FormatLink: `</3/0>;dim=2,</3/0/0>;title="Straße"`, formatAnyJSON: `{"n":"é"}`,
			FormatSenMLJSON: `[{"n":"/3/0/0","vs":"not closed"`, FormatJSON: `{"e":[{"n":"0","sv":"é"`, formatSenMLETCHJSON: `[{]`,
		} {
			text, cut, note := show(path, coap.Content, f, true, payload)
			require.Equal(t, payload, text, "%s %s", path, f)
			require.False(t, cut)
			require.Empty(t, note)
			text, _, _ = show(path, coap.Content, f, true, payload+"\xff")
			require.Regexp(t, "^[0-9a-f]+$", text, "%s %s: it is not UTF-8", path, f)
		}
		text, _, _ := show(path, coap.NotFound, 0, false, "there is no such object")
		require.Equal(t, "there is no such object", text, "the words of an error")
	}
	for _, payload := range []string{
		`[{"bn":"/0/0/","n":"5","vs":"key"`, `[{"n":"12/0/1","vs":"key"`, `[{"bn":"/21","n":"/0/1","vs":"key"`, `[{"bn":"\/lwm2m\/11\/"`, `[{"bn":"\u002f0/"`,
	} {
		for _, path := range []string{"/", "dp"} {
			text, _, note := show(path, coap.Content, FormatSenMLJSON, true, payload)
			require.Empty(t, text, payload)
			require.Contains(t, note, "may hold keys")
		}
	}
	m := &tracedMessage{path: tracedPath{known: true, path: NewPath(3, 0, 0)}, options: coap.AppendUint(nil, coap.Block2, 0x18)}
	m.payload = []byte("ße Straß")[1:]
	m.payload = m.payload[:len(m.payload)-1]
	m.whole = len(m.payload)
	text, _, _ := trace.payloadText(m, FormatText, true)
	require.Equal(t, "e Stra", text, "a block that begins and ends within characters")
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
