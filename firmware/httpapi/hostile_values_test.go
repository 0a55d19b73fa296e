package httpapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// hostileTexts are hostile values of a parameter.
var hostileTexts = []string{
	"", " ", "0", "-1", "+1", " 1", "1 ", "01", "1.0", "1e3", "0x10", "１", "1001", "65535", strings.Repeat("9", 30), "true", "TRUE", "null", "nil",
	"\x00", "\x7f", "\xff", "a\nb", "\u0085", "\ufeff", "😀", "../..", "%2e", "/", "//", "3/0", "?", "#", ";", "&", "=", "a=b", "=b", "a==", "*", "%",
	"rollout/x", "idle,updating", "[]", "{}", "'; --", strings.Repeat("a", 64), strings.Repeat("a", 65), strings.Repeat("é", 200), strings.Repeat("a", 5000),
	"1s", "-1s", "1ns", "1e9h", "99999999h", "NaN", "Infinity", "9223372036854775808", "18446744073709551616",
}

// hostileJSON are hostile values in a body, as JSON.
var hostileJSON = []string{
	"null", "true", "0", "-1", "1", "1.5", "-0", "1e400", "1e308", "1e-400", "9007199254740993", "9223372036854775808", "123456789012345678901234567890",
	`""`, `" "`, `"0"`, `"a\nb"`, `"\u0000"`, `"\ud800"`, `"\ufeff"`, `"rollout/x"`, `"x"`, `"ＰＵＬＬ"`, `"-1h"`, `"0s"`, `"1e9h"`, `"1000000h"`, `"2026-01-01"`,
	`"2026-01-01T00:00:00Z"`, `"9999-12-31T23:59:59-23:59"`, `"2036-01-01T00:00:00,5Z"`, `"25:00"`, `"101%"`, `"0%"`, `"1e1%"`, `"Local"`, `"../../etc/passwd"`,
	`[]`, `{}`, `[null]`, `[""]`, `[{}]`, `[[]]`, `{"":""}`, `{"a":null}`, `{"a":{}}`, `{"__proto__":{}}`,
	`"` + strings.Repeat("x", 300) + `"`, strings.Repeat("[", 9000) + strings.Repeat("]", 9000), `"` + strings.Repeat("é", 2500) + `"`,
}

// pointers returns the paths of all values in a value, except itself.
func pointers(value any, at []any) (list [][]any) {
	visit := func(key, member any) {
		in := append(slices.Clone(at), key)
		list = append(append(list, in), pointers(member, in)...)
	}
	switch v := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			visit(key, v[key])
		}
	case []any:
		for i, member := range v {
			visit(i, member)
		}
	}
	return list
}

// with returns the JSON of a value in which another one, as JSON, is at a path. An empty one
// removes the member.
func with(value any, at []any, other string) string {
	if len(at) == 0 {
		return other
	}
	var b bytes.Buffer
	member := func(name string, one any, here bool) {
		text := jsonText(one)
		if here {
			if text = with(one, at[1:], other); text == "" {
				return
			}
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(name + text)
	}
	switch v := value.(type) {
	case map[string]any:
		b.WriteByte('{')
		for _, key := range slices.Sorted(maps.Keys(v)) {
			name, _ := json.Marshal(key)
			member(string(name)+":", v[key], key == at[0])
		}
		b.WriteByte('}')
	case []any:
		b.WriteByte('[')
		for i, one := range v {
			member("", one, i == at[0])
		}
		b.WriteByte(']')
	}
	return b.String()
}
