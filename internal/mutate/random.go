package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// A verdict is the result of the tests for a mutation.
type verdict struct {
	m       *mutation
	kind    string
	result  result
	problem error // of the tool itself
}

// The verdicts.
const (
	killed       = "killed"
	timedOut     = "timeout" // counts as killed
	survived     = "survived"
	uncompilable = "does not compile" // not counted
)

// A campaign is one run of the command with random mutations.
type campaign struct {
	options
	t      *tester
	out    io.Writer
	drawer *drawer
	argued []*known

	counts  map[string]int
	alive   []*mutation
	refuted []*mutation // marked as known, but killed
}

func mutateRandomly(ctx context.Context, o options, patterns []string, t *tester, env environment) error {
	fmt.Fprintf(env.stdout, "seed %d\n", o.seed)
	c := &campaign{options: o, t: t, out: env.stdout, counts: map[string]int{}}
	if o.known != "" {
		path := o.known
		if !filepath.IsAbs(path) {
			path = filepath.Join(env.dir, path)
		}
		var err error
		if c.argued, err = readKnown(path); err != nil {
			return err
		}
	}
	if err := c.prepare(ctx, patterns, env.grace); err != nil {
		return err
	}
	if o.list {
		return c.show()
	}
	start := time.Now()
	if err := c.test(ctx); err != nil {
		return err
	}
	if c.only > c.drawer.number {
		return fmt.Errorf("there are %d mutations", c.drawer.number)
	}
	return c.report(time.Since(start))
}

// prepare measures the packages and orders their mutations.
func (c *campaign) prepare(ctx context.Context, patterns []string, grace time.Duration) error {
	packages, err := load(ctx, c.t, patterns)
	if err != nil {
		return err
	}
	sites := map[*pkg][]*site{}
	for _, p := range packages {
		if !p.tests {
			fmt.Fprintf(c.out, "%s has no tests\n", p.importPath)
			continue
		}
		if err := p.measure(ctx, c.t, c.short, grace); err != nil {
			return err
		}
		sites[p] = p.sites()
		match(c.argued, sites[p])
		covered := 0
		for _, s := range sites[p] {
			if s.covered {
				covered++
			}
		}
		fmt.Fprintf(c.out, "%s: %d statements are covered, with %d sites; a test may take %s\n",
			p.importPath, p.statements, covered, p.timeout.Round(time.Second))
	}
	if err := stale(c.argued, packages); err != nil {
		return err
	}
	c.drawer = newDrawer(c.seed, packages, sites)
	return nil
}

// next draws the next mutation to test.
func (c *campaign) next() *mutation {
	for {
		m := c.drawer.draw()
		if m == nil || c.only == 0 || m.number == c.only {
			return m
		}
		if m.number > c.only {
			return nil
		}
	}
}

func (c *campaign) show() error {
	for counted := 0; counted < c.n; {
		m := c.next()
		if m == nil {
			return nil
		}
		fmt.Fprintln(c.out, m)
		if m.known == nil {
			counted++
		}
	}
	return nil
}

// test draws mutations and tests them, several at a time, until enough are counted.
func (c *campaign) test(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	waiting := map[int]verdict{} // verdicts that arrived before those of earlier mutations
	verdicts := make(chan verdict)
	counted, running, first, shown := 0, 0, 0, 0
	for drained := false; ; {
		for !drained && running < c.jobs && counted < c.n && (c.only == 0 || shown+running == 0) {
			m := c.next()
			if m == nil {
				drained = true
				break
			}
			if first == 0 {
				first = m.number
			}
			if m.known == nil {
				counted++
			}
			running++
			go func() { verdicts <- c.try(ctx, m) }()
		}
		if running == 0 {
			return nil
		}
		v := <-verdicts
		running--
		if v.problem != nil {
			cancel()
			for ; running > 0; running-- {
				<-verdicts
			}
			return v.problem
		}
		if v.kind == uncompilable && v.m.known == nil {
			counted--
		}
		waiting[v.m.number] = v
		for ; waiting[first+shown].m != nil; shown++ {
			c.note(waiting[first+shown])
			delete(waiting, first+shown)
		}
	}
}

// try tests one mutation.
func (c *campaign) try(ctx context.Context, m *mutation) verdict {
	overlay, err := c.t.overlay(map[string][]byte{m.src.path: m.after()})
	if err != nil {
		return verdict{problem: err}
	}
	b, err := c.t.build(ctx, m.pkg.importPath, overlay)
	if errors.Is(err, errBuild) {
		return verdict{m: m, kind: uncompilable}
	}
	if err != nil {
		return verdict{problem: err}
	}
	defer b.remove()
	args := []string{"-test.failfast"}
	if c.short {
		args = append(args, "-test.short")
	}
	r, err := c.t.run(ctx, b, m.pkg.dir, overlay, m.pkg.timeout, args...)
	switch {
	case err != nil:
		return verdict{problem: err}
	case r.timedOut:
		return verdict{m: m, kind: timedOut, result: r}
	case r.failed:
		return verdict{m: m, kind: killed, result: r}
	default:
		return verdict{m: m, kind: survived, result: r}
	}
}

// String returns the line of a mutation, without its verdict.
func (m *mutation) String() string {
	before, after := excerpts(m.lines())
	line := fmt.Sprintf("%d %s:%d %s: %s => %s", m.number, m.src.name, m.line, m.kind, before, cmp.Or(after, "nothing"))
	if m.known != nil {
		line += " (known: " + m.known.why + ")"
	}
	return line
}

// note counts and prints a verdict.
func (c *campaign) note(v verdict) {
	said := v.kind
	if v.kind == killed {
		said += " by " + v.result.culprit()
	}
	fmt.Fprintf(c.out, "%s: %s\n", v.m, said)
	if c.only > 0 {
		fmt.Fprintf(c.out, "\n%s\n%s\n%s", v.m.paragraph(), v.m.diff(), v.result.output)
	}
	switch {
	case v.kind == uncompilable:
	case v.m.known == nil:
		c.counts[v.kind]++
		if v.kind == survived {
			c.alive = append(c.alive, v.m)
		}
	case v.kind != survived:
		c.refuted = append(c.refuted, v.m)
	}
}

func (m *mutation) diff() string {
	return unified(m.src.name, string(m.src.text), string(m.after()))
}

// report prints the counts and the survivors.
func (c *campaign) report(took time.Duration) error {
	fmt.Fprintf(c.out, "\n%d mutations in %s: %d killed, %d of these by timeout; %d survived\n",
		c.counts[killed]+c.counts[timedOut]+c.counts[survived], took.Round(time.Second),
		c.counts[killed]+c.counts[timedOut], c.counts[timedOut], c.counts[survived])
	for _, m := range c.alive {
		fmt.Fprintf(c.out, "\n%d survived, in %s:\n%s", m.number, m.function, m.diff())
	}
	var why []string
	if len(c.alive) > c.options.survivors {
		why = append(why, fmt.Sprintf("%d mutations survived, of which %d may", len(c.alive), c.options.survivors))
	}
	for _, m := range c.refuted {
		why = append(why, fmt.Sprintf("%s says that mutation %d changes nothing, but a test notices it", m.known.where, m.number))
	}
	if len(why) > 0 {
		return fmt.Errorf("%w: %s", errFound, strings.Join(why, "; "))
	}
	return nil
}
