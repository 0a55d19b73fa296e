package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func paragraphs(text string) (list []string) {
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if p != "" {
			list = append(list, p)
		}
	}
	return list
}

// pieces returns the parts of a text in which `code` and **strong** are marked.
func pieces(text string) (list []docsPiece) {
	marked := regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*")
	last := 0
	for _, at := range marked.FindAllStringIndex(text, -1) {
		list = append(list, docsPiece{Text: text[last:at[0]]}, docsPiece{
			Text: strings.Trim(text[at[0]:at[1]], "`*"), Code: text[at[0]] == '`', Strong: text[at[0]] == '*',
		})
		last = at[1]
	}
	return append(list, docsPiece{Text: text[last:]})
}

func textOf(object map[string]any, key string) string {
	text, _ := object[key].(string)
	return strings.TrimSpace(text)
}

func (s *spec) docsSchema(name, at string) docsSchema {
	object, _ := s.at(at)
	d := docsSchema{Name: name, Description: textOf(object, "description"), Type: s.typeOf(at)}
	if list, ok := object["examples"].([]any); ok {
		d.Example = jsonText(list[0])
	}
	d.Rows = s.rows(at, "")
	return d
}

// rows returns the fields of an object, and of objects in it that have no name of their own.
func (s *spec) rows(at, indent string) (rows []docsRow) {
	object, _ := s.at(at)
	properties, _ := object["properties"].(map[string]any)
	required, _ := object["required"].([]any)
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		in := at + "/properties/" + name
		direct := properties[name].(map[string]any)
		of, _ := s.at(in)
		row := docsRow{Indent: indent, Name: name, Description: textOf(of, "description"), Required: slices.Contains(required, any(name)), Type: s.typeOf(in)}
		if direct["$ref"] != nil { // described where it is defined
			row.Description = ""
		}
		rows = append(rows, row)
		if items, ok := of["items"].(map[string]any); ok && items["properties"] != nil && direct["$ref"] == nil {
			rows = append(rows, s.rows(in+"/items", indent+name+"[].")...)
		}
	}
	return rows
}

// typeOf says in words what a schema allows.
func (s *spec) typeOf(at string) (list []docsPiece) {
	object, pointer := s.at(at)
	if name, ok := strings.CutPrefix(pointer, "/components/schemas/"); ok && !strings.Contains(name, "/") && pointer != at {
		return []docsPiece{{Text: name, Link: "schema-" + name}}
	}
	say := func(format string, a ...any) { list = append(list, docsPiece{Text: fmt.Sprintf(format, a...)}) }
	for _, key := range []string{"anyOf", "allOf"} {
		parts, _ := object[key].([]any)
		for i := range parts {
			if i > 0 {
				say(" or ")
			}
			list = append(list, s.typeOf(fmt.Sprintf("%s/%s/%d", pointer, key, i))...)
		}
	}
	if words, ok := object["enum"].([]any); ok {
		texts := make([]string, len(words))
		for i, word := range words {
			if texts[i] = fmt.Sprint(word); word == nil {
				texts[i] = "null"
			} else if word == "" {
				texts[i] = `""`
			}
			texts[i] = strings.TrimPrefix(texts[i], problemType)
		}
		say("%s", strings.Join(texts, ", "))
	} else if value, ok := object["const"]; ok {
		say("%q", fmt.Sprint(value))
	} else {
		switch kind := object["type"].(type) {
		case string:
			say("%s", kind)
		case []any:
			words := make([]string, len(kind))
			for i, word := range kind {
				words[i] = word.(string)
			}
			say("%s", strings.Join(words, " or "))
		}
	}
	if object["items"] != nil {
		say(" of ")
		if items, _ := s.at(pointer + "/items"); items["properties"] != nil && !strings.HasPrefix(at, "/components/schemas/Values") && pointerOf(s, pointer+"/items") == pointer+"/items" {
			say("objects")
		} else {
			list = append(list, s.typeOf(pointer+"/items")...)
		}
	}
	if more, ok := object["additionalProperties"].(map[string]any); ok && len(more) > 0 {
		say(" of names and ")
		list = append(list, s.typeOf(pointer+"/additionalProperties")...)
	}
	for _, limit := range []struct{ key, words string }{
		{"minimum", "from"}, {"exclusiveMinimum", "above"}, {"maximum", "to"}, {"minLength", "at least"}, {"maxLength", "at most"},
		{"minItems", "at least"}, {"maxItems", "at most"}, {"maxProperties", "at most"}, {"default", "default"},
	} {
		value, ok := object[limit.key]
		unit := map[string]string{"minLength": " characters", "maxLength": " characters", "minItems": " items", "maxItems": " items", "maxProperties": " names"}[limit.key]
		if ok && value != "" {
			say(", %s %v%s", limit.words, value, unit)
		}
	}
	return list
}

func pointerOf(s *spec, at string) string {
	_, pointer := s.at(at)
	return pointer
}

func jsonText(value any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(value) // it was decoded from JSON
	return strings.TrimSpace(b.String())
}
