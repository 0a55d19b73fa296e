//go:build unix

package soak_test

import (
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
)

// logSize is how many bytes of a process's log a failed test shows.
const logSize = 1 << 20

// proc is a process that is killed and restarted with the same arguments.
type proc struct {
	path string
	args []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	log    cli.Tail
	killed bool // the test has killed it
	lives  int
}

// start starts the process.
func (p *proc) start(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stderr = &p.log
	cmd.WaitDelay = time.Second // a child that still has the log open must not block Wait
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	p.cmd, p.done, p.killed = cmd, done, false
	p.lives++
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// kill sends SIGKILL.
func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

// died returns how the process ended by itself, or "" if it did not.
func (p *proc) died() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		if !p.killed {
			return p.cmd.ProcessState.String()
		}
	default:
	}
	return ""
}

// build compiles one of the example programs.
func build(t *testing.T, dir, name string) string {
	t.Helper()
	path := dir + string(os.PathSeparator) + name
	out, err := exec.Command("go", "build", "-o", path, "github.com/otago-iot/otago/examples/"+name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}
