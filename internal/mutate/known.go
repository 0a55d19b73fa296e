package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A known mutation changes nothing that a test could observe; why is the argument for that. A file
// of known mutations has paragraphs like this one, separated by empty lines:
//
//	# The loop before leaves n at most at the limit, so that more is not possible.
//	file: firmware/fsm/judge.go
//	func: (*machine).clearDownloaded
//	kind: off by one
//	before: case m.Memory.Resets < m.Plan.Attempts:
//	after: case m.Memory.Resets <= m.Plan.Attempts:
//
// The argument may take several lines, each after a #. Before and after are the changed lines, with
// each run of white space as one space; after may be empty. A paragraph covers all mutations that
// match it.
type known struct {
	where                                     string // its position in the file of known mutations
	why, file, function, kind, before, change string
	fits                                      bool // some mutation in the source matches
}

// readKnown reads a file of known mutations.
func readKnown(path string) ([]*known, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []*known
	var k *known
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		where := fmt.Sprintf("%s:%d", filepath.Base(path), number)
		line = strings.TrimSpace(line)
		if line == "" {
			k = nil
			continue
		}
		if k == nil {
			k = &known{where: where}
			all = append(all, k)
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			k.why = strings.TrimSpace(k.why + " " + strings.TrimSpace(comment))
			continue
		}
		key, value, _ := strings.Cut(line, ":")
		field, ok := map[string]*string{"file": &k.file, "func": &k.function, "kind": &k.kind, "before": &k.before, "after": &k.change}[key]
		if !ok {
			return nil, fmt.Errorf("%s: there is file, func, kind, before and after, not %q", where, key)
		}
		*field = oneLine(value)
	}
	for _, k := range all {
		if k.why == "" || k.file == "" || k.kind == "" || k.before == "" {
			return nil, fmt.Errorf("%s: a known mutation needs an argument (#), file, kind and before", k.where)
		}
	}
	return all, nil
}

// match marks the mutations of the sites that are known.
func match(all []*known, sites []*site) {
	for _, s := range sites {
		for _, m := range s.mutations {
			for _, k := range all {
				if k.file != m.src.name || k.function != m.function || k.kind != m.kind {
					continue
				}
				if before, after := m.lines(); before == k.before && after == k.change {
					k.fits, m.known = true, k
				}
			}
		}
	}
}

// stale returns an error if a known mutation of these packages matches nothing.
func stale(all []*known, packages []*pkg) error {
	for _, k := range all {
		for _, p := range packages {
			for _, s := range p.files {
				if s.name == k.file && !k.fits {
					return fmt.Errorf("%s: the source has no such mutation any more", k.where)
				}
			}
		}
	}
	return nil
}

// paragraph returns the mutation in the format of a file of known ones, without the argument.
func (m *mutation) paragraph() string {
	before, after := m.lines()
	return strings.TrimSpace(fmt.Sprintf("file: %s\nfunc: %s\nkind: %s\nbefore: %s\nafter: %s", m.src.name, m.function, m.kind, before, after)) + "\n"
}
