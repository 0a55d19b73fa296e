package record

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// A wordCoder writes words by their place in a list.
type wordCoder struct {
	textCoder
	words []string
	open  bool // others are written as text
}

var lists sync.Map // reflect.Type -> *wordCoder

func wordsOf(t reflect.Type) coder {
	if list, ok := lists.Load(t); ok {
		return list.(*wordCoder)
	}
	return nil
}

// Enum makes T an enumeration: its values are words, and "", and no others. A word's place in the
// list stands for it in records, so that new words come last. Call Enum before a codec of a type
// with a T is used.
func Enum[T ~string](words ...T) { register(words, false) }

// Common is as [Enum], for a type that may have other values. They are written as text.
func Common[T ~string](words ...T) { register(words, true) }

func register[T ~string](words []T, open bool) {
	list := &wordCoder{open: open}
	for _, word := range words {
		list.words = append(list.words, string(word))
	}
	lists.Store(reflect.TypeFor[T](), list)
}

func (c *wordCoder) append(b []byte, number uint64, v reflect.Value) ([]byte, error) {
	text := v.String()
	at := slices.Index(c.words, text)
	switch {
	case at >= 0 || text == "":
		return appendNumber(b, number, uint64(at+1)), nil
	case c.open:
		return appendText(b, number, text), nil
	}
	return b, fmt.Errorf("record: unknown word %q", text)
}

func (c *wordCoder) parse(v reflect.Value, f rawField) error {
	switch {
	case f.isBytes && c.open && !slices.Contains(c.words, f.text):
		v.SetString(f.text)
	case f.isBytes || f.n > uint64(len(c.words)):
		return fmt.Errorf("record: unknown word %d%q", f.n, f.text)
	case f.n > 0:
		v.SetString(c.words[f.n-1])
	}
	return nil
}
