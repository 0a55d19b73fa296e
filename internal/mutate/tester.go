package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// A tester builds and runs tests with some files replaced. It writes to one directory of its own
// only.
type tester struct {
	dir    string // where the go command runs
	tmp    string
	serial atomic.Int64
}

func newTester(env environment) (*tester, error) {
	tmp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o711); err != nil { // for a database of a test, which runs as another account
		removeAll(tmp)
		return nil, err
	}
	return &tester{dir: env.dir, tmp: tmp}, nil
}

func (t *tester) close() { removeAll(t.tmp) }

// removeAll deletes what it can. A process that a test left running may still write; such files
// stay among the temporary files.
func removeAll(dir string) { _ = os.RemoveAll(dir) }

// goCommand runs the go command and returns what it prints.
func (t *tester) goCommand(ctx context.Context, args ...string) ([]byte, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = t.dir, &out, &problems
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, problems.Bytes())
	}
	return out.Bytes(), nil
}

// overlay writes replacements of files for the go command, and returns the name of the overlay
// file.
func (t *tester) overlay(texts map[string][]byte) (string, error) {
	dir := filepath.Join(t.tmp, fmt.Sprint("o", t.serial.Add(1)))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		if err := os.WriteFile(replace[path], text, 0o644); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, list, 0o644)
}

// A binary is a compiled test.
type binary struct{ path string }

func (b binary) remove() { os.Remove(b.path) }

// errBuild is the category of compiler errors.
var errBuild = errors.New("does not compile")

// build builds the test of a package. overlay is the name of an overlay file, or empty.
func (t *tester) build(ctx context.Context, pkg, overlay string, flags ...string) (binary, error) {
	b := binary{filepath.Join(t.tmp, fmt.Sprint("b", t.serial.Add(1), ".exe"))} // Windows runs no other name
	args := append([]string{"test", "-c", "-vet=off", "-ldflags=-w", "-o", b.path}, flags...)
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	if _, err := t.goCommand(ctx, append(args, pkg)...); err != nil {
		if ctx.Err() != nil {
			return binary{}, err
		}
		return binary{}, fmt.Errorf("%w: %w", errBuild, err)
	}
	if _, err := os.Stat(b.path); err != nil {
		return binary{}, fmt.Errorf("%s has no tests", pkg)
	}
	return b, nil
}

// A result is the result of a test run.
type result struct {
	failed, timedOut bool
	output           string
	took             time.Duration
}

// run runs a test in a directory. A test that starts the go command builds with the same overlay.
func (t *tester) run(ctx context.Context, b binary, dir, overlay string, timeout time.Duration, args ...string) (result, error) {
	tmp := filepath.Join(t.tmp, fmt.Sprint("t", t.serial.Add(1)))
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return result{}, err
	}
	defer removeAll(tmp)
	// The test binary ends by itself at its time-out, and prints its goroutines, unless it is too
	// busy.
	runCtx, cancel := context.WithTimeout(ctx, timeout+10*time.Second)
	defer cancel()
	var out limited
	cmd := exec.CommandContext(runCtx, b.path, append([]string{"-test.paniconexit0", "-test.timeout=" + timeout.String()}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(cmd.Environ(), "TMPDIR="+tmp, "TMP="+tmp)
	if overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	cmd.WaitDelay = 5 * time.Second
	group(cmd)
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	killGroup(cmd)
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		return result{}, err
	}
	return result{failed: err != nil, timedOut: err != nil && took >= timeout, output: out.String(), took: took}, nil
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
var panicLine = regexp.MustCompile(`(?m)^(panic|fatal error): .*`)

// culprit names the cause of a failed run: the first test that failed and its first subtest, else a
// panic.
func (r result) culprit() string {
	name := ""
	for _, match := range failLine.FindAllStringSubmatch(r.output, -1) {
		if name == "" || strings.HasPrefix(match[1], name+"/") {
			name = match[1]
		}
	}
	if name != "" {
		return name
	}
	if line := panicLine.FindString(r.output); line != "" {
		return shorten(line, 80)
	}
	return "its exit status"
}

// excerpt returns the end of the culprit's output, which usually contains its error.
func (r result) excerpt() string {
	const most = 20
	text := r.output
	if at := failLine.FindAllStringIndex(text, -1); len(at) > 0 {
		name := r.culprit()
		for i, match := range at {
			if strings.HasSuffix(text[match[0]:match[1]], " "+name) {
				if i+1 < len(at) {
					text = text[:at[i+1][0]]
				}
				text = text[match[0]:]
				break
			}
		}
	}
	lines := splitLines(text)
	if len(lines) > most {
		lines = append([]string{lines[0], "\t…"}, lines[len(lines)-most:]...)
	}
	return strings.Join(lines, "\n")
}

// limited keeps the first part of what is written to it, because a broken test may print without
// end.
type limited struct{ buf bytes.Buffer }

var _ io.Writer = (*limited)(nil)

const maxOutput = 4 << 20

func (l *limited) Write(p []byte) (int, error) {
	l.buf.Write(p[:min(len(p), max(maxOutput-l.buf.Len(), 0))])
	return len(p), nil
}

func (l *limited) String() string { return l.buf.String() }
