package httpapi

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
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
