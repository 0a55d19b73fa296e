package otago_test

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/modfile"
	xmodule "golang.org/x/mod/module"
)

// gitFiles returns the files that git knows or would add, whose names match a pattern.
func gitFiles(t *testing.T, pattern string) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard", pattern).Output()
	require.NoError(t, err)
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		_, err := os.Stat(name)
		return err != nil // it is deleted, but not from the index
	})
}

// TestAllPackages compares the packages that the pattern "work" matches with the folders of Go
// files in git. A module that go.work does not use would be left out of all commands in silence.
func TestAllPackages(t *testing.T) {
	workspace(t)
	var want []string
	for _, name := range gitFiles(t, "*.go") {
		if !slices.Contains(strings.Split(name, "/"), "testdata") {
			want = append(want, path.Join("otago", path.Dir(name)))
		}
	}
	slices.Sort(want)
	var got []string
	for importPath := range strings.FieldsSeq(goCommand(t, "list", "work")) {
		p, ours := below(importPath)
		require.True(t, ours, importPath)
		got = append(got, path.Join("otago", p))
	}
	slices.Sort(got)
	require.Equal(t, slices.Compact(want), got)
}

// TestModules holds the modules together: go.work uses all of them, and replaces the one version
// that they require of each other. They themselves replace nothing, as the go command installs no
// program of a module that does. What two of them require of others has one version.
func TestModules(t *testing.T) {
	workspace(t)
	text, err := os.ReadFile("go.work")
	require.NoError(t, err)
	work, err := modfile.ParseWork("go.work", text, nil)
	require.NoError(t, err)
	var used []string
	for _, u := range work.Use {
		used = append(used, path.Clean(u.Path))
	}
	replaced := map[string]*modfile.Replace{}
	for _, r := range work.Replace {
		replaced[r.Old.Path] = r
	}
	var found []string
	versions := map[string]xmodule.Version{} // the first that was met
	for _, name := range gitFiles(t, "*go.mod") {
		dir := path.Dir(name)
		found = append(found, dir)
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		f, err := modfile.Parse(name, text, nil)
		require.NoError(t, err)
		require.Equal(t, path.Join(module, dir), f.Module.Mod.Path)
		require.Empty(t, f.Replace, name)
		require.Empty(t, f.Exclude, name)
		require.Equal(t, work.Go.Version, f.Go.Version, name)
		for _, r := range f.Require {
			require.False(t, dir == "." && (r.Mod.Path == pgx || strings.HasPrefix(r.Mod.Path, otel)), "a user of tlv has no database and no telemetry in his go.mod")
			first, ok := versions[r.Mod.Path]
			require.True(t, !ok || first == r.Mod, "%s requires %s, another module %s: go run ./internal/modules -tidy", name, r.Mod, first)
			versions[r.Mod.Path] = r.Mod
			if p, ours := below(r.Mod.Path); ours {
				require.Contains(t, replaced, r.Mod.Path)
				require.Equal(t, r.Mod, replaced[r.Mod.Path].Old, "go.work and %s", name)
				require.Equal(t, path.Join(".", p), path.Clean(replaced[r.Mod.Path].New.Path))
				require.Equal(t, versions[module].Version, r.Mod.Version, "%s: the modules of one release have one version", name)
			}
		}
	}
	require.ElementsMatch(t, found, used)
	sums, err := filepath.Glob("*.sum")
	require.NoError(t, err)
	for _, name := range append(sums, gitFiles(t, "*go.sum")...) {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NotContains(t, string(text), module, "%s: each commit would change this sum", name)
	}
}
