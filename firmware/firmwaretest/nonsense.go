package firmwaretest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/otago-iot/otago/lwm2m"
)

// Nonsense is what a device answers to reads instead of the truth, by the paths of single resources
// of objects 3 and 5. The zero value is none. It reproduces captures and reports: an Object 5
// without a model whose State is 43 (Leshan's console can make one), versions with a NUL at the end
// or empty (devices that send a fixed buffer), and answers without content.
type Nonsense struct {
	// Values replace the values of resources, or of missing ones, by values of any type: a State of
	// 99 or of "yes".
	Values map[lwm2m.Path]lwm2m.Value
	// NoContent paths are answered with 2.05 and neither a payload nor a format.
	NoContent []lwm2m.Path
	// EmptyPack paths are answered with 2.05 and a pack of SenML, or TLV, without a record.
	EmptyPack []lwm2m.Path
}

// instead returns what a read of path gets.
func (n Nonsense) instead(path lwm2m.Path, entries []lwm2m.Entry, err error) ([]lwm2m.Entry, error) {
	if slices.Contains(n.NoContent, path) || slices.Contains(n.EmptyPack, path) {
		return nil, nil // nonsenseWire removes the content
	}
	said := slices.Clone(entries)
	for _, p := range slices.SortedFunc(maps.Keys(n.Values), lwm2m.Path.Compare) {
		if !path.Contains(p) {
			continue
		}
		said = slices.DeleteFunc(said, func(e lwm2m.Entry) bool { return p.Contains(e.Path) })
		said = append(said, lwm2m.Entry{Path: p, Value: n.encodable(p)})
	}
	if len(said) > 0 {
		return said, nil
	}
	return said, err
}

// raw returns the paths of texts that are not UTF-8. A client does not encode them, so it sends
// stand-ins, which nonsenseWire replaces.
func (n Nonsense) raw() []lwm2m.Path {
	var paths []lwm2m.Path
	for _, p := range slices.SortedFunc(maps.Keys(n.Values), lwm2m.Path.Compare) {
		if text, ok := n.Values[p].Text(); ok && !utf8.ValidString(text) {
			paths = append(paths, p)
		}
	}
	return paths
}

// encodable returns the value at p, or a stand-in of the same length.
func (n Nonsense) encodable(p lwm2m.Path) lwm2m.Value {
	i := slices.Index(n.raw(), p)
	if i < 0 {
		return n.Values[p]
	}
	text, _ := n.Values[p].Text()
	return lwm2m.String(standIn(i, len(text)))
}

// standIn returns a text that occurs nowhere else: it has only control characters.
func standIn(i, length int) string { return strings.Repeat(string(rune(0x0e+i%16)), length) }

// models returns object models in which the nonsense has the right types: a client does not encode
// a value whose type differs from its model's.
func (n Nonsense) models() *lwm2m.Models {
	models := new(lwm2m.Models)
	for p, v := range n.Values {
		for minor := range uint8(3) {
			m, ok := models.Object(p.Object(), lwm2m.Version{Major: 1, Minor: minor})
			if !ok {
				continue
			}
			odd := *m
			odd.Resources = slices.Clone(m.Resources)
			for i := range odd.Resources {
				if odd.Resources[i].ID == p.Resource() {
					odd.Resources[i].Type = v.Type()
				}
			}
			_ = models.Add(&odd) // the model was valid before
		}
	}
	return models
}

// OddVersions returns odd forms of a version in 3/0/3 and 5/0/7 that devices are known to send, by
// what is odd about them, for [Nonsense.Values].
func OddVersions(version string) map[string]lwm2m.Value {
	return map[string]lwm2m.Value{
		"empty":          lwm2m.String(""),
		"trailing NUL":   lwm2m.String(version + "\x00"),
		"blanks around":  lwm2m.String("  " + version + " \r\n"),
		"bytes":          lwm2m.String("\xff\xfe\x00"),
		"905 bytes":      lwm2m.String(version + strings.Repeat("x", 905-len(version))),
		"a number":       lwm2m.Integer(1),
		"opaque":         lwm2m.Opaque([]byte(version)),
		"a longer one":   lwm2m.String(version + "0"),
		"another casing": lwm2m.String(strings.ToUpper("v" + version)),
	}
}

// maxTokens limits the requests whose answers are to be emptied.
const maxTokens = 64

// nonsenseWire changes answers in ways that the client itself would refuse to send.
type nonsenseWire struct {
	nonsense Nonsense

	mu     sync.Mutex
	tokens []string // of reads to answer without content, the newest last
}

func (w *nonsenseWire) received(m *message) (*message, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token := string(m.token)
	w.tokens = slices.DeleteFunc(w.tokens, func(t string) bool { return t == token })
	for _, p := range w.nonsense.NoContent {
		if m.path() == p.String() {
			w.tokens = append(w.tokens[max(0, len(w.tokens)-maxTokens+1):], token)
		}
	}
	return nil, true
}

func (w *nonsenseWire) sent(m *message) bool {
	if m.code != codeContent {
		return true
	}
	w.mu.Lock()
	empty := slices.Contains(w.tokens, string(m.token))
	w.mu.Unlock()
	if empty {
		m.payload, m.changed = nil, true
		m.options = slices.DeleteFunc(m.options, func(o option) bool { return o.number == optionContentFormat })
	}
	for i, p := range w.nonsense.raw() {
		text, _ := w.nonsense.Values[p].Text()
		if instead := []byte(standIn(i, len(text))); bytes.Contains(m.payload, instead) {
			m.payload, m.changed = bytes.ReplaceAll(m.payload, instead, []byte(text)), true
		}
	}
	return true
}
