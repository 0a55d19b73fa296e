package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	"golang.org/x/mod/zip"
)

// A tree is what a working tree holds: the files that git knows, or would add.
type tree struct {
	root    string
	files   []string // relative to root, with slashes
	modules []mod    // each after those that it requires
	version string   // that they require of each other
}

// A mod is one module of the tree.
type mod struct {
	path, dir string   // dir is relative to the root, with slashes
	requires  []string // of the tree
}

// readTree reads the tree of a repository.
func readTree(root string) (*tree, error) {
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	t := &tree{root: root}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		info, err := os.Lstat(t.file(name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // it is deleted, but not from the index
		case err != nil:
			return nil, err
		case info.Mode().IsRegular():
			t.files = append(t.files, name)
		}
	}
	return t, t.readModules()
}

func (t *tree) file(name string) string { return filepath.Join(t.root, filepath.FromSlash(name)) }

// readModules finds the modules, their order, and the version that they require of each other.
func (t *tree) readModules() error {
	parsed := map[string]*modfile.File{}
	for _, name := range t.files {
		if path.Base(name) != "go.mod" {
			continue
		}
		text, err := os.ReadFile(t.file(name))
		if err != nil {
			return err
		}
		f, err := modfile.Parse(name, text, nil)
		if err != nil {
			return err
		}
		parsed[f.Module.Mod.Path] = f
		t.modules = append(t.modules, mod{path: f.Module.Mod.Path, dir: path.Dir(name)})
	}
	for i := range t.modules {
		m := &t.modules[i]
		for _, r := range parsed[m.path].Require {
			if parsed[r.Mod.Path] == nil {
				continue
			}
			m.requires = append(m.requires, r.Mod.Path)
			if t.version == "" {
				t.version = r.Mod.Version
			}
			if r.Mod.Version != t.version {
				return fmt.Errorf("%s requires %s, others %s: the modules of one release have one version", m.path, r.Mod, t.version)
			}
		}
	}
	var sorted []mod
	for len(t.modules) > 0 {
		i := slices.IndexFunc(t.modules, func(m mod) bool { // requires only what is sorted
			return !slices.ContainsFunc(m.requires, func(required string) bool {
				return !slices.ContainsFunc(sorted, func(s mod) bool { return s.path == required })
			})
		})
		if i < 0 {
			return errors.New("modules require each other in a circle")
		}
		sorted = append(sorted, t.modules[i])
		t.modules = slices.Delete(t.modules, i, i+1)
	}
	t.modules = sorted
	return nil
}

// of returns the module that a file belongs to: the innermost one.
func (t *tree) of(name string) (found mod, ok bool) {
	for _, m := range t.modules {
		if (m.dir == "." || strings.HasPrefix(name, m.dir+"/")) && (!ok || len(m.dir) > len(found.dir) || found.dir == ".") {
			found, ok = m, true
		}
	}
	return found, ok
}

// copyTo copies the files, without the workspace.
func (t *tree) copyTo(source string) error {
	for _, name := range t.files {
		if name == "go.work" || name == "go.work.sum" {
			continue
		}
		to := filepath.Join(source, filepath.FromSlash(name))
		info, err := os.Stat(t.file(name))
		if err != nil {
			return err
		}
		text, err := os.ReadFile(t.file(name))
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, text, info.Mode().Perm())); err != nil {
			return err
		}
	}
	return nil
}

// publish makes a module proxy of the tree, see https://go.dev/ref/mod#goproxy-protocol, and
// completes each go.sum of the copy in source.
func (t *tree) publish(source, proxy string) error {
	sums := map[string]string{}
	for _, m := range t.modules {
		goMod, err := os.ReadFile(t.file(path.Join(m.dir, "go.mod")))
		if err != nil {
			return err
		}
		goSum := filepath.Join(source, filepath.FromSlash(m.dir), "go.sum")
		lines, err := t.othersSums(goSum)
		if err != nil {
			return err
		}
		for _, required := range m.requires { // the go command sorts by path
			at := slices.IndexFunc(lines, func(line string) bool { return moduleOf(line) > required })
			if at < 0 {
				at = len(lines)
			}
			lines = slices.Insert(lines, at, sums[required])
		}
		if err := os.WriteFile(goSum, []byte(strings.Join(lines, "")), 0o644); err != nil {
			return err
		}
		versions := filepath.Join(proxy, filepath.FromSlash(m.path), "@v")
		if err := os.MkdirAll(versions, 0o755); err != nil {
			return err
		}
		packed := filepath.Join(versions, t.version+".zip")
		if err := t.pack(m, packed); err != nil {
			return err
		}
		info, err := json.Marshal(map[string]string{"Version": t.version})
		if err != nil {
			return err
		}
		if err := errors.Join(
			os.WriteFile(filepath.Join(versions, "list"), []byte(t.version+"\n"), 0o644),
			os.WriteFile(filepath.Join(versions, t.version+".info"), info, 0o644),
			os.WriteFile(filepath.Join(versions, t.version+".mod"), goMod, 0o644),
		); err != nil {
			return err
		}
		if sums[m.path], err = t.sum(m, goMod, packed); err != nil {
			return err
		}
	}
	return nil
}

// sum returns the lines of go.sum for a module that is packed.
func (t *tree) sum(m mod, goMod []byte, packed string) (string, error) {
	whole, err := dirhash.HashZip(packed, dirhash.Hash1)
	if err != nil {
		return "", err
	}
	open := func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(goMod)), nil }
	only, err := dirhash.Hash1([]string{"go.mod"}, open)
	return fmt.Sprintf("%[1]s %[2]s %[3]s\n%[1]s %[2]s/go.mod %[4]s\n", m.path, t.version, whole, only), err
}

// pack writes the zip file of a module. As the go command does, it gives a module without a licence
// the one of the repository.
func (t *tree) pack(m mod, to string) (err error) {
	var files []zip.File
	licence := false
	add := func(name, as string) {
		files = append(files, packedFile{t.file(name), as})
		licence = licence || as == "LICENSE"
	}
	for _, name := range t.files {
		if of, ok := t.of(name); ok && of.path == m.path {
			add(name, strings.TrimPrefix(name, m.dir+"/"))
		}
	}
	if !licence && slices.Contains(t.files, "LICENSE") {
		add("LICENSE", "LICENSE")
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return zip.Create(f, module.Version{Path: m.path, Version: t.version}, files)
}

type packedFile struct{ path, name string }

func (f packedFile) Path() string                 { return f.name }
func (f packedFile) Lstat() (os.FileInfo, error)  { return os.Lstat(f.path) }
func (f packedFile) Open() (io.ReadCloser, error) { return os.Open(f.path) }

// othersSums returns the lines of a go.sum that are not of the tree's modules.
func (t *tree) othersSums(file string) (lines []string, err error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(text)) {
		if !slices.ContainsFunc(t.modules, func(m mod) bool { return m.path == moduleOf(line) }) {
			lines = append(lines, line)
		}
	}
	return lines, err
}

// moduleOf returns the module of a line of go.sum.
func moduleOf(line string) string {
	name, _, _ := strings.Cut(line, " ")
	return name
}

// writeBack copies go.mod and go.sum of a module from the copy to the tree.
func (t *tree) writeBack(m mod, source string) error {
	from := filepath.Join(source, filepath.FromSlash(m.dir))
	text, err := os.ReadFile(filepath.Join(from, "go.mod"))
	if err != nil {
		return err
	}
	lines, err := t.othersSums(filepath.Join(from, "go.sum"))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(t.file(path.Join(m.dir, "go.mod")), text, 0o644),
		os.WriteFile(t.file(path.Join(m.dir, "go.sum")), []byte(strings.Join(lines, "")), 0o644),
	)
}
