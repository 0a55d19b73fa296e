package httpapi

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/rollout"
)

// TestDocNamesWhatThereIs compares the package's documentation with the table of calls, and with
// the reasons of package fsm.
func TestDocNamesWhatThereIs(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, calls, _ := strings.Cut(string(doc), "# Calls")
	calls, _, _ = strings.Cut(calls, "# ")
	want := 0
	for _, route := range newAPI(nil, nil, AllowAll, Config{}).routes {
		for method := range route.calls {
			want++
			require.Regexp(t, `(?m)^//\t`+method+` +/api/v1/`+regexp.QuoteMeta(route.path)+`(\s|\?|$)`, calls)
		}
	}
	require.Len(t, regexp.MustCompile(`(?m)^//\t[A-Z]+ +/api/v1/`).FindAllString(calls, -1), want)

	_, list, _ := strings.Cut(string(doc), "//\treason ")
	list, _, _ = strings.Cut(list, "//\tmay_still ")
	source, err := os.ReadFile("../fsm/phase.go")
	require.NoError(t, err)
	reasons := regexp.MustCompile(`Reason = "([a-z_]+)"`).FindAllStringSubmatch(string(source), -1)
	require.NotEmpty(t, reasons)
	for _, m := range reasons {
		require.Regexp(t, `\b`+m[1]+`\b`, list)
	}
	require.Len(t, regexp.MustCompile(`[a-z_]+`).FindAllString(list, -1), len(reasons))
}

// TestRolloutGuide compares doc/rollouts.md with the fields of the bodies, with the reasons, and
// with the names of the lines of the journal.
func TestRolloutGuide(t *testing.T) {
	data, err := os.ReadFile("../../doc/rollouts.md")
	require.NoError(t, err)
	guide := string(data)
	// table returns the words of the first column of the table below a heading.
	table := func(heading string) (words []string) {
		_, text, found := strings.Cut(guide, heading)
		require.True(t, found, heading)
		_, text, _ = strings.Cut(text, "|---|")
		text, _, _ = strings.Cut(text, "\n\n")
		for row := range strings.Lines(text) {
			cell, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			for _, m := range regexp.MustCompile("`([a-z_.]+)`").FindAllStringSubmatch(cell, -1) {
				words = append(words, m[1])
			}
		}
		return words
	}
	fields := func(body any) (names []string) {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(body)) {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" {
				names = append(names, name)
			}
		}
		return names
	}
	require.ElementsMatch(t, append(fields(rolloutRequest{}), "targets.endpoints", "targets.select"), table("## The fields"))
	require.ElementsMatch(t, fields(rollout.Selector{}), table("### A selector"))
	require.ElementsMatch(t, fields(stageBody{}), table("### A stage"))
	require.ElementsMatch(t, fields(windowBody{}), table("### A window"))
	require.ElementsMatch(t, fields(updateOptions{}), table("### The updates"))
	_, change, _ := strings.Cut(guide, "PATCH changes ")
	change, _, _ = strings.Cut(change, " of a rollout")
	for _, field := range fields(changeBody{}) {
		if field != "reason" {
			require.Contains(t, change, "`"+field+"`")
		}
	}
	var waiting []string
	for _, reason := range waitingReasons {
		waiting = append(waiting, string(reason))
	}
	require.Equal(t, waiting, table("Every device that waits has a reason"))
	for _, reason := range skipReasons {
		require.Contains(t, guide+docText(t), string(reason))
	}

	var events []string
	sources, err := filepath.Glob("../rollout/*.go")
	require.NoError(t, err)
	for _, path := range append(sources, "../rollout/fsm/action.go") {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?m)^\tEvent\w+ += "([a-z_]+)"`).FindAllSubmatch(source, -1) {
			events = append(events, string(m[1]))
		}
	}
	require.ElementsMatch(t, events, table("Each line has one of these names"))
}

func docText(t *testing.T) string {
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	return string(doc)
}
