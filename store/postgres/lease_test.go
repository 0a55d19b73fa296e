//go:build unix

package postgres_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/postgres"
)

// childEnv has the URL of the database for this binary, run again as a child, and the namespace.
const (
	childEnv    = "OTAGO_TEST_POSTGRES_CHILD"
	spaceEnv    = "OTAGO_TEST_POSTGRES_NAMESPACE"
	unfencedEnv = "OTAGO_TEST_POSTGRES_UNFENCED"
	soakEnv     = "OTAGO_TEST_POSTGRES_SOAK"
)

// The tests wait for the end of leases, so these are short.
const shortLease = 2 * time.Second

func TestMain(m *testing.M) {
	postgres.SetLeaseTime(shortLease)
	if url := os.Getenv(childEnv); url != "" {
		fmt.Fprintln(os.Stderr, child(url, os.Getenv(spaceEnv)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child writes until it cannot. It prints what it does.
func child(url, namespace string) error {
	pool, err := openPool(url)
	if err != nil {
		return err
	}
	db, err := postgres.New(pool, postgres.Config{Namespace: namespace, Node: "child"})
	if err != nil {
		return err
	}
	if os.Getenv(unfencedEnv) != "" {
		postgres.Unfence(db)
	}
	if os.Getenv(soakEnv) != "" {
		return soak(background, db, func(line string) { fmt.Println(line) })
	}
	for n := 0; ; n++ {
		// The gate of what a server sends.
		holds := db.Holds()
		_, err := db.Commit(background, store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: fmt.Sprint("child ", n)}})
		switch {
		case errors.Is(err, postgres.ErrLost):
			fmt.Println("lost", db.Holds())
			<-db.Lost()
			return err
		case err != nil:
			return err
		}
		fmt.Println("wrote", holds)
	}
}

// A process is a child that runs.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

func startChild(t *testing.T, namespace string, env ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childEnv+"="+sharedURL, spaceEnv+"="+namespace), env...)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return &process{t, cmd, bufio.NewScanner(out)}
}

// startWriter starts a child that overwrites the record of a device all the time.
func startWriter(t *testing.T, namespace string, env ...string) *process {
	t.Helper()
	p := startChild(t, namespace, env...)
	for range 5 {
		p.expect("wrote true")
	}
	return p
}

// expect reads a line of the child.
func (p *process) expect(line string) {
	p.t.Helper()
	require.True(p.t, p.lines.Scan(), "the child has ended")
	require.Equal(p.t, line, p.lines.Text())
}

// takeOver waits as a standby, and returns its store.
func takeOver(t *testing.T, namespace string) *postgres.Store {
	t.Helper()
	began := time.Now()
	db, err := postgres.Standby(t.Context(), shared(t), postgres.Config{Namespace: namespace, Node: "standby"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	t.Logf("took over after %v", time.Since(began))
	// 15 s after the death of a server with a lease of LeaseTime; a busy machine may be slow.
	require.Less(t, time.Since(began), shortLease+13*time.Second)
	return db
}

func TestHeld(t *testing.T) {
	pool := shared(t)
	first, err := postgres.New(pool, postgres.Config{Namespace: "held", Node: "first"})
	require.NoError(t, err)
	require.True(t, first.Holds())
	_, err = postgres.New(pool, postgres.Config{Namespace: "held", Node: "second"})
	held, ok := errors.AsType[*postgres.HeldError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "first", held.Node)
	require.Positive(t, held.For)
	require.LessOrEqual(t, held.For, shortLease)
	other, err := postgres.New(pool, postgres.Config{Namespace: "not held"})
	require.NoError(t, err)
	require.NoError(t, other.Close())

	// It renews the lease, so that it stays held after its first end.
	until := func() time.Time { return first.Report(t.Context()).Lease.Until }
	end := until()
	require.Eventually(t, func() bool { return until().After(end.Add(shortLease)) }, 20*time.Second, time.Millisecond)
	_, err = postgres.New(pool, postgres.Config{Namespace: "held"})
	held, ok = errors.AsType[*postgres.HeldError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "first", held.Node)
	require.NoError(t, first.Close())
	require.False(t, first.Holds())
	second, err := postgres.New(pool, postgres.Config{Namespace: "held"})
	require.NoError(t, err, "Close gives the lease back")
	require.NoError(t, second.Close())
}

// TestKilledServer kills a server with SIGKILL: the standby goes on where it was.
func TestKilledServer(t *testing.T) {
	shared(t)
	p := startWriter(t, "killed server")
	require.NoError(t, p.cmd.Process.Kill())
	db := takeOver(t, "killed server")
	d, err := db.Device(t.Context(), "ep")
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(d.Firmware.Version, "child "), "%q", d.Firmware.Version)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: "standby"}})
	require.NoError(t, err)
}

// TestStoppedServer stops a server, lets a standby take over, and wakes the server up: it changes
// nothing, and knows at once that it does not hold the namespace.
func TestStoppedServer(t *testing.T) {
	version := wakeAfterTakeover(t, "stopped server", func(p *process) {
		for p.lines.Scan() {
			line := p.lines.Text()
			if line == "lost false" {
				return
			}
			// It wrote this before it was stopped.
			require.True(t, strings.HasPrefix(line, "wrote"), line)
		}
		t.Fatal("the child did not say that it has lost the namespace")
	})
	require.Equal(t, "standby", version)
}

// TestWithoutFence is the counter-test: without the epoch the server that wakes up overwrites what
// the standby wrote.
func TestWithoutFence(t *testing.T) {
	version := wakeAfterTakeover(t, "without fence", func(p *process) {
		for p.lines.Scan() && p.lines.Text() != "wrote false" { // its gate was closed, and it wrote
			continue
		}
	}, unfencedEnv+"=1")
	require.NotEqual(t, "standby", version)
}

// wakeAfterTakeover returns the version that is stored when woken has returned.
func wakeAfterTakeover(t *testing.T, namespace string, woken func(*process), env ...string) string {
	shared(t)
	p := startWriter(t, namespace, env...)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
	db := takeOver(t, namespace)
	_, err := db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep", Firmware: store.Firmware{Version: "standby"}})
	require.NoError(t, err)
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
	woken(p)
	d, err := db.Device(t.Context(), "ep")
	require.NoError(t, err)
	return d.Firmware.Version
}

// TestStalledConnection: a server may stop while a connection of it holds the row of the lease. The
// standby ends that connection.
func TestStalledConnection(t *testing.T) {
	pool := shared(t)
	first, err := postgres.New(pool, postgres.Config{Namespace: "stalled"})
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "UPDATE otago.leases SET commits = commits + 1 WHERE namespace = 'stalled'")
	require.NoError(t, err)
	postgres.Abandon(first)
	second := takeOver(t, "stalled")
	require.False(t, first.Holds(), "its lease is over, by its own clock")
	_, err = second.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	_, err = first.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.ErrorIs(t, err, postgres.ErrLost)
	<-first.Lost()
	require.False(t, first.Holds())
	require.NoError(t, first.Close())
	u := store.Update{ID: "u", Endpoint: "ep", Image: "i", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now())}
	_, err = second.Commit(t.Context(), store.CreateImage{Image: store.Image{ID: "i", Version: "1"}}, store.CreateUpdate{Update: u})
	require.NoError(t, err, "the first one's Close does not give the second one's lease back")
}

// TestReadOnly reads beside the store that writes.
func TestReadOnly(t *testing.T) {
	pool := shared(t)
	empty, err := postgres.New(pool, postgres.Config{Namespace: "nothing", ReadOnly: true})
	require.NoError(t, err)
	span, err := empty.Span(t.Context())
	require.NoError(t, err)
	require.Zero(t, span)
	seq, err := empty.Commit(t.Context())
	require.NoError(t, err)
	require.Zero(t, seq)
	require.NoError(t, empty.Close())

	db, err := postgres.New(pool, postgres.Config{Namespace: "read"})
	require.NoError(t, err)
	_, err = db.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.NoError(t, err)
	reader, err := postgres.New(pool, postgres.Config{Namespace: "read", ReadOnly: true})
	require.NoError(t, err)
	_, err = reader.Device(t.Context(), "ep")
	require.NoError(t, err)
	_, err = reader.Commit(t.Context(), store.PutFirmware{Endpoint: "ep"})
	require.ErrorContains(t, err, "read only")
	require.False(t, reader.Holds())
	require.NoError(t, reader.Close())
	require.True(t, db.Holds())
	require.NoError(t, db.Close())
}
