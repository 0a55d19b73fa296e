package firmwaretest

import (
	"bytes"
	"slices"
	"sync"
)

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
