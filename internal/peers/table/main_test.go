package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const log = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"attr","Package":"p","Test":"TestA","Key":"interop","Value":"libcoap | client | coap | get"}
{"Action":"attr","Package":"p","Test":"TestA","Key":"other","Value":"x"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"attr","Package":"p","Test":"TestA/sub","Key":"interop","Value":"go-coap | server | coaps | get"}
{"Action":"skip","Package":"p","Test":"TestA/sub"}
{"Action":"attr","Package":"p","Test":"TestB","Key":"interop","Value":"go-coap | server | coap | get"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"attr","Package":"p","Test":"TestC","Key":"interop","Value":"go-coap | server | coap | get"}
{"Action":"pass","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Output":"PASS\n"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p","Elapsed":0.1}
`

const rows = `| go-coap | server | coap | get | passed |
| go-coap | server | coaps | get | not run |
| libcoap | client | coap | get | passed |
`

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "INTEROP.md")
	var out bytes.Buffer
	require.Error(t, run(strings.NewReader(log), &out, path, false), "there is no file")
	out.Reset()
	require.NoError(t, run(strings.NewReader(log), &out, path, true))
	require.Equal(t, "ok  \tp\t0.1s\n", out.String(), "what go test says, and no more")
	got, err := os.ReadFile(path)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(got), "|---|---|---|---|---|\n"+rows), "%s", got)
	require.NoError(t, run(strings.NewReader(log), &out, path, false))
	err = run(strings.NewReader(strings.ReplaceAll(log, `"skip","Package":"p","Test":"TestA/sub"`, `"pass","Package":"p","Test":"TestA/sub"`)), &out, path, false)
	require.ErrorContains(t, err, "- | go-coap | server | coaps | get | not run |\n+ | go-coap | server | coaps | get | passed |\n")
}

func TestFailures(t *testing.T) {
	path := filepath.Join(t.TempDir(), "INTEROP.md")
	var out bytes.Buffer
	require.NoError(t, run(strings.NewReader(log), &out, path, true))
	for name, more := range map[string]string{
		"a test":         `{"Action":"output","Package":"p","Test":"TestD","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p","Test":"TestD"}` + "\n",
		"a package":      `{"Action":"output","Package":"p","Output":"why\n"}` + "\n" + `{"Action":"fail","Package":"p"}` + "\n",
		"a build":        `{"ImportPath":"p","Action":"build-output","Output":"why\n"}` + "\n" + `{"ImportPath":"p","Action":"build-fail"}` + "\n",
		"no line of it":  "why\n" + `{"Action":"fail","Package":"p"}` + "\n",
		"no end of line": "why\n" + `{"Action":"fail","Package":"p"}`,
	} {
		out.Reset()
		require.ErrorContains(t, run(strings.NewReader(log+more), &out, path, false), "tests failed", name)
		require.Contains(t, out.String(), "why", name)
	}
}
