// Package disktest computes what a file system may keep of changes after a power failure, for
// tests.
package disktest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/otago-iot/otago/internal/disk"
)

// A Model records every change of the files below a directory, and computes the possible states
// after a power failure. A file system may keep or lose any change that was not synced. Each name
// that was created, changed or removed since the last sync of its directory refers to its old or
// its new file. Each file that was written since its last sync has its old bytes, its new ones,
// zeros in place of the new ones, or only the second half of the new ones.
type Model struct {
	Root string // the directory

	mu    sync.Mutex
	steps []disk.Step
}

// Made records a step; it serves as disk.Files.Done.
func (m *Model) Made(step disk.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = append(m.steps, step)
}

// Count returns the number of steps.
func (m *Model) Count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.steps)
}

// A modelFile has the bytes that are durable, and those that were written.
type modelFile struct{ safe, written []byte }

// A modelDir has, for each name, its node at the last sync of the directory and each node since: a
// *modelFile, a *modelDir or nil.
type modelDir map[string][]any

func (d modelDir) set(name string, node any) {
	if d[name] == nil {
		d[name] = []any{nil}
	}
	d[name] = append(d[name], node)
}

func (d modelDir) get(name string) any {
	if h := d[name]; len(h) > 0 {
		return h[len(h)-1]
	}
	return nil
}

// after returns the root after the first n steps.
func (m *Model) after(n int) modelDir {
	m.mu.Lock()
	defer m.mu.Unlock()
	root := modelDir{}
	find := func(path string) (modelDir, string) {
		path, err := filepath.Rel(m.Root, path)
		if err != nil {
			panic(err)
		}
		names := strings.Split(filepath.ToSlash(path), "/")
		dir := root
		for _, name := range names[:len(names)-1] {
			dir = dir.get(name).(modelDir)
		}
		return dir, names[len(names)-1]
	}
	for _, step := range m.steps[:n] {
		dir, name := find(step.Path)
		file, _ := dir.get(name).(*modelFile)
		switch step.Verb {
		case "mkdir":
			dir.set(name, modelDir{})
		case "create":
			if file == nil {
				dir.set(name, &modelFile{})
			}
		case "truncate":
			file.written = append(bytes.Clone(file.written), make([]byte, max(0, int(step.At)-len(file.written)))...)[:step.At]
		case "write":
			size := max(len(file.written), int(step.At)+len(step.Data))
			file.written = append(bytes.Clone(file.written), make([]byte, size-len(file.written))...)
			copy(file.written[step.At:], step.Data)
		case "sync":
			file.safe = file.written
		case "rename":
			to, as := find(step.To)
			to.set(as, dir.get(name))
			dir.set(name, nil)
		case "remove":
			dir.set(name, nil)
		case "sync directory":
			synced, _ := dir.get(name).(modelDir)
			if name == "." {
				synced = root
			}
			for name, h := range synced {
				synced[name] = h[len(h)-1:]
			}
		default:
			panic(step.Verb)
		}
	}
	return root
}

// A State describes the files after a power failure: the content of each file by its path, and the
// directories, whose paths end with a slash.
type State map[string]string

// state returns a possible state. choose(n) returns a number below n.
func (d modelDir) state(choose func(of int) int) State {
	state, bytesOf := State{}, map[*modelFile]string{}
	var walk func(d modelDir, path string)
	walk = func(d modelDir, path string) {
		for _, name := range slices.Sorted(maps.Keys(d)) {
			h := d[name]
			switch node := h[choose(len(h))].(type) {
			case modelDir:
				state[path+name+"/"] = ""
				walk(node, path+name+"/")
			case *modelFile:
				if _, known := bytesOf[node]; !known { // a file may have two names
					kinds := node.kinds()
					bytesOf[node] = string(kinds[choose(len(kinds))])
				}
				state[path+name] = bytesOf[node]
			}
		}
	}
	walk(d, "")
	return state
}

// kinds returns the possible contents of a file, from the durable bytes to the written ones.
func (f *modelFile) kinds() [][]byte {
	if bytes.Equal(f.safe, f.written) {
		return [][]byte{f.written}
	}
	common := 0
	for common < min(len(f.safe), len(f.written)) && f.safe[common] == f.written[common] {
		common++
	}
	zeros := append(bytes.Clone(f.written[:common]), make([]byte, len(f.written)-common)...)
	half := bytes.Clone(zeros)
	copy(half[common+(len(half)-common)/2:], f.written[common+(len(half)-common)/2:])
	return [][]byte{f.safe, zeros, half, f.written}
}

// States returns the possible states after the first n steps. If there are more than most, it
// returns the one that lost everything, the one that kept everything, and random others.
func (m *Model) States(n, most int) []State {
	root := m.after(n)
	var list []State
	seen := map[string]bool{}
	add := func(choose func(int) int) {
		state := root.state(choose)
		if key := fmt.Sprint(state); !seen[key] {
			seen[key] = true
			list = append(list, state)
		}
	}
	add(func(int) int { return 0 })
	add(func(of int) int { return of - 1 })
	var next []int // the first choices; later ones are 0
	for range 4 * most {
		var took, of []int
		add(func(n int) int {
			k := 0
			if len(took) < len(next) {
				k = next[len(took)]
			}
			took, of = append(took, k), append(of, n)
			return k
		})
		i := len(took) - 1
		for i >= 0 && took[i]+1 == of[i] {
			i--
		}
		if i < 0 {
			return list[:min(len(list), most)]
		}
		next = append(took[:i:i], took[i]+1)
	}
	random := rand.New(rand.NewPCG(uint64(n), 0))
	list = list[:2]
	for range most - 2 {
		add(random.IntN)
	}
	return list
}

// Write creates the files of a state below an empty directory.
func (s State) Write(t testing.TB, dir string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(s)) { // a directory comes before its contents
		if name, ok := strings.CutSuffix(path, "/"); ok {
			if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(filepath.Join(dir, path), []byte(s[path]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// Sizes returns the paths and sizes of the files, for messages.
func (s State) Sizes() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(&b, " %s:%d", path, len(s[path]))
	}
	return b.String()
}

// MemoryDir returns a directory in memory, if the system has one, because fsync is slow for
// hundreds of states. Otherwise it returns t.TempDir().
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "otago-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
