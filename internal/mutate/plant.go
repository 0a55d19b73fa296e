package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// Results of a planted fault; all but found are failures.
const (
	found        = "found"
	notFound     = "not found"
	doesNotApply = "does not apply"
	elsewhere    = "found by something else"
	notSound     = "the test does not pass without the fault"
)

// An outcome is the result of one fault.
type outcome struct {
	*fault
	said   string // found, ... or uncompilable
	detail string
	took   time.Duration
}

// A planter plants faults, and caches results of the unchanged tests.
type planter struct {
	t     *tester
	grace time.Duration

	mu        sync.Mutex
	unchanged map[string]func() (unchanged, error) // by package
	baselines map[string]func() (baseline, error)  // by package, test and flags
}

// unchanged is the test binary of a package without a fault.
type unchanged struct {
	binary
	dir string // of the package
}

// A baseline is the result of a test without a fault.
type baseline struct {
	dir     string // of the package
	problem string // why it does not pass; empty if it does
	timeout time.Duration
}

func plantFaults(ctx context.Context, o options, t *tester, env environment) error {
	path := o.faults
	if !filepath.IsAbs(path) {
		path = filepath.Join(env.dir, path)
	}
	faults, err := readFaults(path)
	if err != nil {
		return err
	}
	var missing []string
	has := map[int]bool{}
	for _, f := range faults {
		has[f.invariant] = true
		if o.invariants > 0 && (f.invariant < 1 || f.invariant > o.invariants) {
			missing = append(missing, fmt.Sprintf("%s is of invariant %d, which there is not", f.name, f.invariant))
		}
	}
	for n := 1; n <= o.invariants; n++ {
		if !has[n] {
			missing = append(missing, fmt.Sprintf("invariant %d has no planted fault", n))
		}
	}
	p := &planter{t: t, grace: env.grace, unchanged: map[string]func() (unchanged, error){}, baselines: map[string]func() (baseline, error){}}
	outcomes, err := p.all(ctx, faults, o.jobs)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "fault\tinvariant\ttest\tseconds\tverdict")
	lost := 0
	for _, out := range outcomes {
		invariant := "-"
		if out.invariant > 0 {
			invariant = fmt.Sprint(out.invariant)
		}
		if out.said != found {
			lost++
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f\t%s\n", out.name, invariant, out.test, out.took.Seconds(), out.said)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, out := range outcomes {
		if out.said != found {
			fmt.Fprintf(env.stdout, "\n%s: %s\n%s\nIt expects: %s\n%s\n", out.name, out.said, out.why, out.expect, strings.Trim(out.detail, "\n"))
		}
	}
	if lost > 0 {
		missing = append(missing, fmt.Sprintf("%d of %d planted faults are not found as they should be", lost, len(faults)))
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", errFound, strings.Join(missing, "; "))
	}
	fmt.Fprintf(env.stdout, "all %d planted faults are found\n", len(faults))
	return nil
}

// all plants every fault, several at a time.
func (p *planter) all(ctx context.Context, faults []*fault, jobs int) ([]outcome, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	outcomes := make([]outcome, len(faults))
	free := make(chan struct{}, jobs)
	var done sync.WaitGroup
	for i, f := range faults {
		free <- struct{}{}
		done.Go(func() {
			defer func() { <-free }()
			if ctx.Err() != nil {
				return
			}
			out, err := p.plant(ctx, f)
			if err != nil {
				cancel(fmt.Errorf("%s: %w", f.name, err))
			}
			out.fault = f
			outcomes[i] = out
		})
	}
	done.Wait()
	return outcomes, context.Cause(ctx)
}

// plant runs the test of one fault without and with it. An error is one of the tool.
func (p *planter) plant(ctx context.Context, f *fault) (outcome, error) {
	texts, err := f.apply(p.t.dir)
	if err != nil {
		return outcome{said: doesNotApply, detail: err.Error()}, nil
	}
	base, err := p.baseline(ctx, f)
	if err != nil {
		return outcome{}, err
	}
	if base.problem != "" {
		return outcome{said: notSound, detail: base.problem}, nil
	}
	overlay, err := p.t.overlay(texts)
	if err != nil {
		return outcome{}, err
	}
	b, err := p.t.build(ctx, f.pkg, overlay)
	if errors.Is(err, errBuild) {
		return outcome{said: uncompilable, detail: err.Error()}, nil
	}
	if err != nil {
		return outcome{}, err
	}
	defer b.remove()
	r, err := p.t.run(ctx, b, base.dir, overlay, base.timeout, f.args()...)
	if err != nil {
		return outcome{}, err
	}
	out := outcome{took: r.took, said: found}
	switch {
	case !r.failed:
		out.said = notFound
	case strings.Contains(r.output, f.expect):
	case r.timedOut:
		out.said, out.detail = elsewhere, fmt.Sprintf("The time was up after %s.", base.timeout.Round(time.Second))
	default:
		out.said, out.detail = elsewhere, r.excerpt()
	}
	return out, nil
}

func (f *fault) args() []string { return append([]string{"-test.run=" + f.test}, f.flags...) }

// once returns the value of a key. The first call makes it.
func once[V any](mu *sync.Mutex, all map[string]func() (V, error), key string, value func() (V, error)) (V, error) {
	mu.Lock()
	get, ok := all[key]
	if !ok {
		get = sync.OnceValues(value)
		all[key] = get
	}
	mu.Unlock()
	return get()
}

// baseline runs the test of a fault without it, once for all faults that share the test.
func (p *planter) baseline(ctx context.Context, f *fault) (baseline, error) {
	key := strings.Join(append([]string{f.pkg}, f.args()...), "\x00")
	return once(&p.mu, p.baselines, key, func() (baseline, error) {
		u, err := once(&p.mu, p.unchanged, f.pkg, func() (unchanged, error) { return p.build(ctx, f.pkg) })
		if err != nil {
			return baseline{}, err
		}
		r, err := p.t.run(ctx, u.binary, u.dir, "", 10*time.Minute, f.args()...)
		base := baseline{dir: u.dir, timeout: 3*r.took + p.grace}
		switch {
		case r.failed:
			base.problem = r.excerpt()
		case strings.Contains(r.output, "testing: warning: no tests to run"):
			base.problem = "No test has that name."
		}
		return base, err
	})
}

func (p *planter) build(ctx context.Context, pkg string) (unchanged, error) {
	dir, err := p.t.goCommand(ctx, "list", "-f", "{{.Dir}}", "--", pkg)
	if err != nil {
		return unchanged{}, err
	}
	b, err := p.t.build(ctx, pkg, "")
	return unchanged{b, strings.TrimSpace(string(dir))}, err
}
