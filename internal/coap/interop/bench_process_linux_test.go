package interop_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Processors of a benchmark: one for the measured program, one for the load.
const (
	measured = 1
	loading  = 0
)

// startOn starts a process that runs on one processor.
func startOn(b *testing.B, cpu int, cmd *exec.Cmd) *process {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, one unix.CPUSet
	require.NoError(b, unix.SchedGetaffinity(0, &all))
	one.Set(cpu % runtime.NumCPU())
	require.NoError(b, unix.SchedSetaffinity(0, &one)) // inherited
	defer func() { require.NoError(b, unix.SchedSetaffinity(0, &all)) }()
	return start(b, cmd)
}

// actor is a process that plays a role and executes orders, one per line.
type actor struct {
	*process
	b      *testing.B
	orders io.WriteCloser
	words  *bufio.Scanner
	ready  string // its first line
}

func startActor(b *testing.B, cpu int, role string) *actor {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	orders, err := cmd.StdinPipe()
	require.NoError(b, err)
	answers, w, err := os.Pipe()
	require.NoError(b, err)
	cmd.ExtraFiles = []*os.File{w}
	a := &actor{b: b, orders: orders, words: bufio.NewScanner(answers)}
	a.words.Buffer(nil, 1<<20)
	a.process = startOn(b, cpu, cmd)
	w.Close()
	b.Cleanup(func() { answers.Close() })
	a.ready = a.listen()
	return a
}

func (a *actor) listen() string {
	a.b.Helper()
	if !a.words.Scan() {
		a.b.Fatalf("%v: %v\n%s", a.cmd.Env[len(a.cmd.Env)-1], a.words.Err(), a.out.String())
	}
	return a.words.Text()
}

// order makes the actor execute an order, and returns its answer.
func (a *actor) order(format string, args ...any) string {
	a.b.Helper()
	_, err := fmt.Fprintf(a.orders, format+"\n", args...)
	require.NoError(a.b, err)
	return a.listen()
}

// act is the actor's side: it reports that it is ready, and executes orders until there are no
// more.
func act(ready string, carryOut func(words []string) (string, error)) error {
	answers := os.NewFile(3, "answers")
	fmt.Fprintln(answers, ready)
	orders := bufio.NewScanner(os.Stdin)
	orders.Buffer(nil, 1<<20)
	for orders.Scan() {
		answer, err := carryOut(strings.Fields(orders.Text()))
		if err != nil {
			return err
		}
		fmt.Fprintln(answers, answer)
	}
	return nil
}

// cpuTime returns the processor time of a process, including the kernel's part.
func (p *process) cpuTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	require.NoError(b, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		first, _, _ := strings.Cut(string(data), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		require.NoError(b, err)
		sum += time.Duration(n)
	}
	return sum
}

// resident returns the anonymous memory of a process in RAM.
func (p *process) resident(b *testing.B) int64 {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(data), "RssAnon:")
	kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	require.NoError(b, err)
	return kb << 10
}
