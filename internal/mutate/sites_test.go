package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const shop = `package shop

import (
	"log/slog"
	"time"
)

type state string

const (
	open   state = "open"
	closed state = "closed"
	also         = closed
)

const (
	most  = 0x10
	pause = 5 * time.Second
)

var sizes [4]int

func (s *state) all(ready, wet bool, names []string, d time.Duration) (int, error) {
	defer f()
	if ready && !wet {
		f()
	}
	for i := 0; i < len(names); i++ {
		slog.Info("name")
	}
	switch {
	case d >= d/3:
		*s = open
		_ = d
	}
	n := make([]int, 1, 2)
	n[0]++
	f(); if *s == closed { go f() }
	return 7, nil
}

func f() {}

func g(x int) bool { return x < 3 }

func h() bool { return true }
`

// loadShop returns a small package.
func loadShop(t *testing.T) []*pkg {
	t.Helper()
	dir := tree(t, map[string]string{"shop/shop.go": shop})
	tester, err := newTester(environment{dir: dir})
	require.NoError(t, err)
	defer tester.close()
	packages, err := load(t.Context(), tester, []string{"./shop"})
	require.NoError(t, err)
	require.Len(t, packages, 1)
	return packages
}

// TestKinds lists all mutations of a small file.
func TestKinds(t *testing.T) {
	packages := loadShop(t)
	var got []string
	for _, s := range packages[0].sites() {
		for _, m := range s.mutations {
			before, after := m.lines()
			compiles := ""
			if !packages[0].compiles(m.src, m.after()) {
				compiles = " (does not compile)"
			}
			got = append(got, fmt.Sprintf("%d %s, %s: %s => %s%s", m.line, m.function, m.kind, before, after, compiles))
		}
	}
	require.Equal(t, strings.TrimSpace(`
13 also, swap: also = closed => also = open
17 most, off by one: most = 0x10 => most = 0x11
18 pause, swap: pause = 5 * time.Second => pause = 2 * (5 * time.Second)
18 pause, swap: pause = 5 * time.Second => pause = (5 * time.Second) / 2
25 (*state).all, negate: if ready && !wet { => if !ready && !wet {
25 (*state).all, negate: if ready && !wet { => if !(ready && !wet) {
25 (*state).all, negate: if ready && !wet { => if ready && wet {
26 (*state).all, drop: f() => 
28 (*state).all, off by one: for i := 0; i < len(names); i++ { => for i := 1; i < len(names); i++ {
28 (*state).all, negate: for i := 0; i < len(names); i++ { => for i := 0; !(i < len(names)); i++ {
28 (*state).all, off by one: for i := 0; i < len(names); i++ { => for i := 0; i <= len(names); i++ {
28 (*state).all, off by one: for i := 0; i < len(names); i++ { => for i := 0; i < len(names)-1; i++ {
32 (*state).all, negate: case d >= d/3: => case !(d >= d/3):
32 (*state).all, off by one: case d >= d/3: => case d > d/3:
32 (*state).all, off by one: case d >= d/3: => case d >= d/4:
33 (*state).all, drop: *s = open => 
33 (*state).all, swap: *s = open => *s = also
33 (*state).all, swap: *s = open => *s = closed
36 (*state).all, off by one: n := make([]int, 1, 2) => n := make([]int, 2, 2)
37 (*state).all, drop: n[0]++ =>  (does not compile)
37 (*state).all, off by one: n[0]++ => n[1]++
38 (*state).all, drop: f(); if *s == closed { go f() } => ; if *s == closed { go f() }
38 (*state).all, swap: f(); if *s == closed { go f() } => f(); if *s != closed { go f() }
38 (*state).all, swap: f(); if *s == closed { go f() } => f(); if *s == open { go f() }
44 g, negate: func g(x int) bool { return x < 3 } => func g(x int) bool { return !(x < 3) }
44 g, off by one: func g(x int) bool { return x < 3 } => func g(x int) bool { return x <= 3 }
44 g, off by one: func g(x int) bool { return x < 3 } => func g(x int) bool { return x < 4 }
46 h, swap: func h() bool { return true } => func h() bool { return false }
`), strings.TrimSpace(strings.Join(got, "\n")))
}

// TestKnown reads known mutations, and finds those that no longer match.
func TestKnown(t *testing.T) {
	packages := loadShop(t)
	file := filepath.Join(t.TempDir(), "known.txt")
	read := func(text string) ([]*known, error) {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		return readKnown(file)
	}
	const good = "# A reason\n#  of two lines.\nfile: shop/shop.go\nfunc: g\nkind: off by one\n" +
		"before: func g(x int) bool {   return x < 3 }\nafter: func g(x int) bool { return x <= 3 }\n"
	all, err := read(good + "\n\n" + strings.ReplaceAll(good, "func: g", "func: f"))
	require.NoError(t, err)
	require.Len(t, all, 2)
	sites := packages[0].sites()
	match(all, sites)
	var why []string
	for _, s := range sites {
		for _, m := range s.mutations {
			if m.known != nil {
				why = append(why, m.known.why+" "+m.text)
			}
		}
	}
	require.Equal(t, []string{"A reason of two lines. x <= 3"}, why)
	require.ErrorContains(t, stale(all, packages), "known.txt:10: the source has no such mutation any more")
	require.NoError(t, stale(all[:1], packages))

	_, err = read(good[strings.Index(good, "file:"):])
	require.ErrorContains(t, err, "known.txt:1: a known mutation needs an argument")
	_, err = read("# Why.\nline: 3\n")
	require.ErrorContains(t, err, `known.txt:2: there is file, func, kind, before and after, not "line"`)
}

// TestDrawSpreads checks the weights of the draw: packages come in proportion to their covered
// statements, and each site comes once.
func TestDrawSpreads(t *testing.T) {
	sites := map[*pkg][]*site{}
	big, small := &pkg{importPath: "big", statements: 300}, &pkg{importPath: "small", statements: 100}
	for p, n := range map[*pkg]int{big: 500, small: 1000} {
		for i := range n {
			m := &mutation{pkg: p, src: &source{name: p.importPath}, start: i, end: i + 1}
			sites[p] = append(sites[p], &site{mutations: []*mutation{m}, covered: i%5 > 0})
		}
	}
	ofBig := 0
	for seed := range uint64(100) {
		d := newDrawer(seed, []*pkg{big, small}, sites)
		require.Len(t, d.sites, 1200)
		require.Len(t, slices.Compact(slices.Clone(d.sites)), 1200)
		for _, s := range d.sites[:20] {
			if s.mutations[0].pkg == big {
				ofBig++
			}
		}
	}
	require.InDelta(t, 1500, ofBig, 100)

	one := newDrawer(7, []*pkg{big, small}, sites).sites
	require.Equal(t, one, newDrawer(7, []*pkg{big, small}, sites).sites)
	require.NotEqual(t, one, newDrawer(8, []*pkg{big, small}, sites).sites)

	// A site that is no longer covered leaves the order of the others unchanged.
	gone := one[10]
	gone.covered = false
	require.Equal(t, slices.Delete(slices.Clone(one), 10, 11), newDrawer(7, []*pkg{big, small}, sites).sites)
}

func TestUnified(t *testing.T) {
	require.Equal(t, `--- a/x.go
+++ b/x.go
@@ -2,7 +2,7 @@
 b
 c
 d
-e
+E
 f
 g
 h
`, unified("x.go", "a\nb\nc\nd\ne\nf\ng\nh\ni\n", "a\nb\nc\nd\nE\nf\ng\nh\ni\n"))
	require.Equal(t, "--- a/x.go\n+++ b/x.go\n@@ -1,1 +1,1 @@\n-a\n+b\n", unified("x.go", "a\n", "b\n"))
}
