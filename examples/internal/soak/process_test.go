//go:build unix

package soak_test

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// proc is a process that is killed and started again, always with the same arguments.
type proc struct {
	path string
	args []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	done   chan struct{}
	log    tail
	killed bool // the end is ours
	lives  int
}

// start starts the process.
func (p *proc) start(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stderr = &p.log
	cmd.WaitDelay = time.Second // a child that still has the log open must not hold Wait up
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	p.cmd, p.done, p.killed = cmd, done, false
	p.lives++
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
}

// kill is kill -9.
func (p *proc) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.killed = true
	_ = p.cmd.Process.Kill()
	<-p.done
}

// died says how the process ended by itself, "" if it did not.
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

// tail keeps the last part of a log.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const tailSize = 1 << 20

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > tailSize {
		l.b.Next(tailSize / 2)
	}
	return l.b.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// build compiles one of the example programs.
func build(t *testing.T, dir, name string) string {
	t.Helper()
	path := dir + string(os.PathSeparator) + name
	out, err := exec.Command("go", "build", "-o", path, "github.com/otago-iot/otago/examples/"+name).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}
