package otago_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files")

const module = "github.com/otago-iot/otago"

// A house rule says what the packages below a path may import: which of our own, by path below the
// module, and which modules of others. The longest path that fits a package counts; /... stands for
// everything below.
type houseRule struct {
	own    []string
	others []string
	http   bool // net/http is linked on purpose
}

const (
	cbor    = "github.com/fxamacker/cbor/v2"
	coap    = "github.com/plgd-dev/go-coap/v3"
	dtls    = "github.com/pion/dtls/v3"
	dtlslog = "github.com/pion/logging" // dtls takes its logger from there
	bbolt   = "go.etcd.io/bbolt"
	otel    = "go.opentelemetry.io/otel"
	pgx     = "github.com/jackc/pgx/v5"
	prom    = "github.com/prometheus/client_golang"
	testify = "github.com/stretchr/testify"
	xmod    = "golang.org/x/mod"
	xsync   = "golang.org/x/sync"
	xsys    = "golang.org/x/sys"
)

// exporters are the SDK of OpenTelemetry and where it sends to, which a program chooses.
var exporters = []string{otel + "/sdk", otel + "/sdk/metric", otel + "/exporters/prometheus", otel + "/exporters/otlp/otlptrace/otlptracehttp"}

// house is ARCHITECTURE.md's map of arrows, as a table.
var house = map[string]houseRule{
	"":                             {},
	"tlv":                          {},
	"senml":                        {own: []string{"internal/cbor"}},
	"firmware/fsm":                 {own: []string{"internal/record"}},
	"firmware/rollout/fsm":         {own: []string{"internal/record"}},
	"firmware/rollout/rollouttest": {own: []string{"firmware/fsm", "firmware/rollout/fsm", "store", "store/storetest"}},
	"firmware/bundle":              {own: []string{"internal/disk"}, others: []string{cbor}},
	"internal/coap":                {own: []string{"internal/coap/...", "internal/dtls", "internal/files", "internal/index", "internal/udp", "internal/work"}, others: []string{coap, xsys}},
	"internal/cbor":                {},
	"internal/disk":                {others: []string{xsys}},
	"internal/disk/disktest":       {own: []string{"internal/disk"}},
	"internal/dtls":                {own: []string{"internal/udp"}, others: []string{dtls, dtlslog}},
	"internal/files":               {others: []string{xsys}},
	"internal/index":               {},
	"internal/names":               {},
	"internal/record":              {},
	"internal/modules":             {others: []string{xmod}},
	"internal/mutate":              {},
	"internal/problem":             {http: true},
	"internal/peers":               {own: []string{"internal/peers"}},
	"internal/pgtest":              {},
	"internal/testkit":             {},
	"internal/work":                {},
	"internal/udp":                 {others: []string{xsys}},
	"lwm2m":                        {own: []string{"lwm2m/...", "tlv", "senml", "internal/cbor", "internal/coap/...", "internal/dtls", "internal/index", "internal/work"}, others: []string{xsync}},
	"store":                        {own: []string{"internal/names", "internal/record", "firmware/fsm", "firmware/rollout/fsm"}},
	"store/internal":               {own: []string{"internal/record", "firmware/fsm", "firmware/rollout/fsm", "store", "store/internal/..."}},
	"store/memory":                 {own: []string{"firmware/fsm", "store", "store/internal/..."}},
	"store/bolt":                   {own: []string{"firmware/fsm", "store", "store/internal/...", "internal/disk"}, others: []string{bbolt}},
	"store/postgres":               {own: []string{"firmware/fsm", "internal/names", "store", "store/internal/..."}, others: []string{pgx}},
	"store/storetest":              {own: []string{"firmware/fsm", "store", "store/storetest/..."}, others: []string{testify}},
	"firmware":                     {own: []string{"internal/names", "internal/problem", "lwm2m", "store", "firmware/fsm", "firmware/internal/...", "firmware/firmwaretest", "internal/disk", "internal/files", "internal/work"}, others: []string{xmod, xsync, xsys}, http: true},
	"firmware/console":             {http: true},
	"firmware/console/browsertest": {},
	"firmware/device":              {own: []string{"lwm2m", "firmware/fsm", "firmware/bundle", "internal/disk", "internal/work"}, others: []string{xsys}, http: true},
	"firmware/firmwaretest":        {own: []string{"firmware", "lwm2m", "lwm2m/simnet", "store", "store/memory", "firmware/fsm", "firmware/internal/...", "firmware/firmwaretest"}, others: []string{testify}},
	"firmware/httpapi":             {own: []string{"internal/names", "internal/problem", "firmware", "firmware/fsm", "firmware/internal/...", "firmware/rollout", "firmware/rollout/fsm", "lwm2m", "store"}, http: true},
	"examples":                     {own: []string{"..."}, others: []string{xsync, bbolt, pgx, xsys}, http: true},
	"examples/fleet":               {own: []string{"..."}, others: append([]string{xsync, bbolt, pgx, xsys}, exporters...), http: true},
	"examples/server":              {own: []string{"..."}, others: append([]string{prom, otel, otel + "/trace"}, append(exporters, xsync, bbolt, pgx, xsys)...), http: true},

	"firmware/telemetry": {own: []string{"firmware", "firmware/rollout", "lwm2m", "store"}, others: []string{otel, otel + "/metric", otel + "/trace"}},

	"firmware/rollout": {own: []string{"internal/names", "internal/work", "lwm2m", "store", "firmware", "firmware/fsm", "firmware/internal/...", "firmware/rollout/fsm"}},

	"firmware/device/devicetest": {own: []string{"firmware/device", "firmware/fsm"}},
}

// libraries are the modules that a program may link without having chosen a back end: none of them
// is a database, metrics or web library.
var libraries = []string{
	module, cbor, coap, dtls, xmod, xsync, xsys,
	"github.com/x448/float16",        // cbor
	"github.com/pion/logging",        // dtls
	"github.com/pion/transport/v4",   // dtls
	"github.com/pion/transport/v5",   // dtls
	"golang.org/x/crypto",            // dtls
	"golang.org/x/exp",               // go-coap
	"github.com/dsnet/golib/memfile", // go-coap
}

type goPackage struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path, Version string }
	Imports    []string
	Deps       []string
}

func (p goPackage) module() string {
	if p.Module == nil {
		return ""
	}
	return p.Module.Path
}

// workspace leaves a test of all modules out where there is one only: with GOWORK=off, and in the
// module cache of a user.
func workspace(t *testing.T) {
	t.Helper()
	work := strings.TrimSpace(goCommand(t, "env", "GOWORK"))
	if _, err := os.Stat("examples"); err != nil || work == "off" {
		t.Skip("this test is about the repository, with all its modules")
	}
	require.NotEmpty(t, work, "go.work is missing")
}

// goCommand runs the go command and returns what it prints.
func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	return string(out)
}

// listDeps returns the packages of all modules and all that they link, by import path.
func listDeps(t *testing.T) map[string]goPackage {
	t.Helper()
	workspace(t)
	out := goCommand(t, "list", "-deps", "-json=ImportPath,Standard,Module,Imports,Deps", "work")
	packages := map[string]goPackage{}
	for decoder := json.NewDecoder(strings.NewReader(out)); ; {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages[p.ImportPath] = p
	}
}

// below returns the path of one of our packages below the module.
func below(importPath string) (string, bool) {
	if importPath == module {
		return "", true
	}
	return strings.CutPrefix(importPath, module+"/")
}

// ruleFor returns the rule of a package, the one with the longest path.
func ruleFor(path string) (houseRule, bool) {
	for {
		if rule, ok := house[path]; ok {
			return rule, true
		}
		if path == "" {
			return houseRule{}, false
		}
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return houseRule{}, false
		}
		path = path[:i]
	}
}

func allowed(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == "..." {
			return true
		}
		if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
			return path == prefix || strings.HasPrefix(path, prefix+"/")
		}
		return path == pattern
	})
}

// TestArrows holds every import to the map: the arrows run one way.
func TestArrows(t *testing.T) {
	packages := listDeps(t)
	for importPath, p := range packages {
		path, ours := below(importPath)
		if !ours {
			continue
		}
		rule, ok := ruleFor(path)
		if !ok {
			t.Errorf("%s is not on the map", importPath)
			continue
		}
		for _, imported := range p.Imports {
			q := packages[imported]
			if own, ours := below(imported); ours {
				if !allowed(rule.own, own) {
					t.Errorf("%s must not import %s", importPath, imported)
				}
			} else if !q.Standard && !slices.Contains(rule.others, q.module()) {
				t.Errorf("%s must not import %s", importPath, imported)
			}
		}
		if !rule.http && slices.Contains(p.Imports, "net/http") {
			t.Errorf("%s must not import net/http", importPath)
		}
	}
}

// TestWhatIsLinked holds the whole closure: only the back ends with a database, the telemetry, and
// the examples link more than the libraries.
func TestWhatIsLinked(t *testing.T) {
	packages := listDeps(t)
	for importPath, p := range packages {
		path, ours := below(importPath)
		if !ours || allowed([]string{"store/bolt/...", "store/postgres/...", "store/storetest/...", "firmware/telemetry", "examples/..."}, path) {
			continue
		}
		for _, dep := range p.Deps {
			if q := packages[dep]; !q.Standard && !slices.Contains(libraries, q.module()) {
				t.Errorf("%s links %s", importPath, dep)
			}
		}
	}
	// The two ends of an update are built apart: each links nothing of the other.
	for path, never := range map[string][]string{
		"firmware/device": {"firmware", "store/..."},
		"firmware":        {"firmware/device/...", "firmware/bundle"},
	} {
		for _, dep := range packages[module+"/"+path].Deps {
			if own, ours := below(dep); ours && allowed(never, own) {
				t.Errorf("%s links %s", path, own)
			}
		}
	}
	// The objects of the registry are for those who ask for them.
	for importPath, p := range packages {
		if path, ours := below(importPath); ours && !allowed([]string{"lwm2m/oma/...", "examples/..."}, path) && slices.Contains(p.Deps, module+"/lwm2m/oma") {
			t.Errorf("%s links lwm2m/oma", importPath)
		}
	}
	for _, path := range []string{"tlv", "internal/cbor", "firmware/fsm", "firmware/rollout/fsm", "store", "store/memory"} {
		for _, dep := range packages[module+"/"+path].Deps {
			if q := packages[dep]; !q.Standard && q.module() != module {
				t.Errorf("%s links %s: it is for the standard library alone", path, dep)
			}
			if dep == "net" || dep == "os/exec" {
				t.Errorf("%s links %s: it has no business with it", path, dep)
			}
		}
	}
}

// TestDependencies holds what each module links of others, by module, to a list, so that a new one
// is a line that somebody reviews.
func TestDependencies(t *testing.T) {
	packages := listDeps(t)
	linked := map[string][]string{}
	for importPath, p := range packages {
		if _, ours := below(importPath); !ours {
			continue
		}
		for _, dep := range p.Deps {
			if _, ours := below(dep); !packages[dep].Standard && !ours {
				linked[p.module()] = append(linked[p.module()], "\t"+packages[dep].Module.Path+" "+packages[dep].Module.Version+"\n")
			}
		}
	}
	var text strings.Builder
	for _, of := range slices.Sorted(maps.Keys(linked)) {
		slices.Sort(linked[of])
		text.WriteString(of + "\n" + strings.Join(slices.Compact(linked[of]), ""))
	}
	golden(t, filepath.Join("testdata", "dependencies.golden"), text.String())
}

// golden compares text with a file, or writes it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "go test -run %s -update . writes it", t.Name())
	require.Equal(t, string(want), got, "if this is meant: go test -run %s -update .", t.Name())
}
