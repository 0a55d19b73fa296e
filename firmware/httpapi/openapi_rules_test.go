package httpapi

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOpenAPIHouseRules: each operation has an id, a summary and a tag; references resolve and are
// all used; objects are typed; examples and defaults are valid by their schemas.
func TestOpenAPIHouseRules(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	var tags []string
	for _, tag := range s.doc["tags"].([]any) {
		tags = append(tags, tag.(map[string]any)["name"].(string))
	}
	ids := map[string]bool{}
	for _, o := range s.operations {
		object, _ := s.at("/paths/" + escape(o.path) + "/" + strings.ToLower(o.method))
		require.Regexp(t, `^[a-z][a-zA-Z]+$`, o.id, o.path)
		require.False(t, ids[o.id], o.id)
		ids[o.id] = true
		require.Regexp(t, `^[A-Z].*[^.]$`, object["summary"], o.id)
		require.Len(t, object["tags"], 1, o.id)
		require.Contains(t, tags, object["tags"].([]any)[0], o.id)
		require.NotNil(t, object["security"], o.id)
	}
	used := map[string]bool{}
	walk(s.doc, "", func(at string, object map[string]any) {
		if to, ok := object["$ref"].(string); ok {
			target, _ := s.at(strings.TrimPrefix(to, "#"))
			require.NotNil(t, target, "%s: %s does not resolve", at, to)
			used[to] = true
		}
		if object["properties"] != nil && !strings.HasSuffix(at, "/properties") {
			inAllOf := regexp.MustCompile(`/allOf/\d+$`).MatchString(at)
			require.True(t, inAllOf || object["additionalProperties"] == false, "%s: it allows other properties", at)
			for name := range object["properties"].(map[string]any) {
				require.Regexp(t, `^[a-z0-9_]+$`, name, at)
			}
		}
		if object["type"] == "object" && object["properties"] == nil && !strings.Contains(at, "/examples") {
			require.NotNil(t, object["additionalProperties"], "%s: an object without a type", at)
			require.NotEqual(t, true, object["additionalProperties"], at)
		}
		if object["description"] == "" {
			t.Errorf("%s: an empty description", at)
		}
		check := func(schema string, value any) {
			require.NoError(t, s.validate(schema, value), at)
		}
		if schema, ok := object["schema"].(map[string]any); ok && schema["type"] != "string" { // of a parameter or a body
			if example, ok := object["example"]; ok {
				check(at+"/schema", example)
			}
			examples, _ := object["examples"].(map[string]any)
			for _, example := range examples {
				check(at+"/schema", example.(map[string]any)["value"])
			}
		}
		if strings.HasPrefix(at, "/components/schemas/") && !strings.HasSuffix(at, "/properties") {
			if list, ok := object["examples"].([]any); ok {
				for _, example := range list {
					check(at, example)
				}
			}
			if value, ok := object["default"]; ok {
				check(at, value)
			}
		}
	})
	for _, kind := range []string{"schemas", "responses", "parameters", "headers", "requestBodies"} {
		all, _ := s.at("/components/" + kind)
		for name := range all {
			require.True(t, used["#/components/"+kind+"/"+name], "nothing uses the %s %s", kind, name)
		}
	}
}

// walk visits every object of a document.
func walk(value any, at string, visit func(at string, object map[string]any)) {
	switch v := value.(type) {
	case map[string]any:
		visit(at, v)
		for key, member := range v {
			walk(member, at+"/"+escape(key), visit)
		}
	case []any:
		for i, member := range v {
			walk(member, fmt.Sprintf("%s/%d", at, i), visit)
		}
	}
}

// TestOpenAPIHasTheWords compares the words of enumerations with those of the code, both ways.
func TestOpenAPIHasTheWords(t *testing.T) {
	s, err := theSpec()
	require.NoError(t, err)
	source := func(path, pattern string) (words []string) {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
			words = append(words, m[1])
		}
		require.NotEmpty(t, words)
		return words
	}
	var contentFormats []string
	for short, f := range formats {
		contentFormats = append(contentFormats, short, f.String())
	}
	for at, want := range map[string][]string{
		"parameters/format/schema": contentFormats,
		"schemas/ValueType":        typeNames[:],
		"schemas/MemberState":      strings.Split(wordsOf(memberStates), ", "),
		"schemas/WaitingReason":    strings.Split(wordsOf(waitingReasons), ", "),
		"schemas/SkipReason":       strings.Split(wordsOf(skipReasons), ", "),
		"schemas/Phase":            source("../fsm/phase.go", `Phase = "([a-z_]+)"`),
		"schemas/Outcome":          source("../fsm/phase.go", `Outcome = "([a-z_]*)"`),
		"schemas/Reason":           append(source("../fsm/phase.go", `Reason = "([a-z_]+)"`), ""),
		"schemas/Protocol":         append(source("../fsm/protocol.go", `Protocol = "([a-z+]+)"`), ""),
		"schemas/RolloutState":     source("../rollout/fsm/rollout.go", `\tState\w+ +State = "([a-z_]+)"`),
		"schemas/RolloutCause":     source("../rollout/fsm/rollout.go", `\tReason\w+ +Reason = "([a-z_]*)"`),
	} {
		object, _ := s.at("/components/" + at)
		var got []string
		for _, word := range object["enum"].([]any) {
			got = append(got, word.(string))
		}
		require.ElementsMatch(t, want, got, at)
	}
}
