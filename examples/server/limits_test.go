package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
)

// configs are the configurations with limits, by package folder.
var configs = map[string]string{
	"lwm2m.ServerConfig":        "lwm2m",
	"firmware.ManagerConfig":    "firmware",
	"firmware.HTTPConfig":       "firmware",
	"firmware.RepositoryConfig": "firmware",
	"firmware.Retain":           "firmware",
	"httpapi.Config":            "firmware/httpapi",
}

// limitFields returns the documented default of each number and size in configs.
func limitFields(t *testing.T) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for config, dir := range configs {
		files, err := filepath.Glob(filepath.Join("../..", filepath.FromSlash(dir), "*.go"))
		require.NoError(t, err)
		found := false
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok || spec.Name.Name != config[strings.Index(config, ".")+1:] {
					return true
				}
				found = true
				for _, field := range spec.Type.(*ast.StructType).Fields.List {
					if kind, ok := field.Type.(*ast.Ident); !ok || kind.Name != "int" && kind.Name != "int64" {
						continue
					}
					fields[config+"."+field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
				}
				return false
			})
		}
		require.True(t, found, config)
	}
	return fields
}

// number returns the first number of a text: of 32 MiB, 1 million and 65,536 too.
func number(t *testing.T, text string) int64 {
	t.Helper()
	m := regexp.MustCompile(`(\d[\d,]*)( million| KiB| MiB| GiB)?`).FindStringSubmatch(text)
	require.NotNil(t, m, text)
	n, err := strconv.ParseInt(strings.ReplaceAll(m[1], ",", ""), 10, 64)
	require.NoError(t, err)
	return n * map[string]int64{"": 1, " million": 1e6, " KiB": 1 << 10, " MiB": 1 << 20, " GiB": 1 << 30}[m[2]]
}

// TestSizing compares the table of limits in doc/sizing.md with the documentation of the fields and
// with the flags.
func TestSizing(t *testing.T) {
	guide, err := os.ReadFile("../../doc/sizing.md")
	require.NoError(t, err)
	o := &options{}
	fs := o.flags(environment{func(string) (string, bool) { return "", false }, io.Discard, io.Discard})
	docs := limitFields(t)
	delete(docs, "firmware.ManagerConfig.Attempts") // limits the patience with one device
	flags := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9]+\\.[A-Za-z.]+)` \\| ([^|]*) \\| (?:`-([a-z-]+)`|) *\\|").FindAllStringSubmatch(string(guide), -1) {
		field, value, name := row[1], row[2], row[3]
		doc, ok := docs[field]
		require.True(t, ok, "%s is no field, or is named twice", field)
		delete(docs, field)
		_, documented, _ := strings.Cut(doc, "Default")
		if files := "files that the process may open"; strings.Contains(documented, files) {
			require.Contains(t, value, "files", field)
			documented, value = documented[strings.Index(documented, files)+len(files):], value[strings.Index(value, "files"):]
		}
		if documented == "" {
			require.Empty(t, value, "%s has no documented default", field)
			continue
		}
		require.Equal(t, number(t, documented), number(t, value), "%s: %s", field, doc)
		if name == "" {
			continue
		}
		flags[name] = true
		f := fs.Lookup(name)
		require.NotNil(t, f, "-%s is no flag", name)
		if f.DefValue != "0" {
			require.Equal(t, number(t, documented), number(t, strings.NewReplacer("MiB", " MiB", "GiB", " GiB").Replace(f.DefValue)), "-%s", name)
		}
	}
	require.Empty(t, docs, "doc/sizing.md lacks fields")
	require.Len(t, flags, 11)
}

// TestLimitsAreSet gives each flag of a limit a value, and looks for it in the configuration.
func TestLimitsAreSet(t *testing.T) {
	o, err := parseOptions([]string{
		"-max-registrations", "1", "-max-peers", "2", "-max-handshakes", "3", "-max-transfers", "4", "-max-connections", "5",
		"-http-max-connections", "6", "-socket-buffer", "7", "-parallel", "8", "-silent", "9", "-retain", "10",
	}, environment{func(string) (string, bool) { return "", false }, io.Discard, io.Discard})
	require.NoError(t, err)
	config, err := o.backend()
	require.NoError(t, err)
	require.Equal(t, lwm2m.ServerConfig{
		MaxRegistrations: 1, MaxPeers: 2, MaxHandshakes: 3, MaxTransfers: 4, MaxConnections: 5, SocketBuffer: 7,
	}, config.Server)
	require.Equal(t, firmware.HTTPConfig{MaxConnections: 6}, config.Web)
	m := config.Manager
	require.Equal(t, []int{8, 9, 10}, []int{m.Parallel, m.Silent, m.Retain.PerEndpoint})
}
