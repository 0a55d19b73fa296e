// Package pgtest starts PostgreSQL for tests, from the binaries that are installed, in a temporary
// folder. No test uses a server that was there before.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server is a PostgreSQL server that listens on a socket in its folder only.
type Server struct {
	bin, dir, data string
	account        *account
	remove         bool // the folder, when the server ends
	settings       []string

	mu    sync.Mutex
	child *exec.Cmd
	alive io.Closer // the server runs until it is closed, if only because this process ends
}

// An account is whom the server runs as: PostgreSQL refuses to run as root.
type account struct{ uid, gid int }

// Start starts a server with further settings, such as "fsync=off", and stops it after the test.
// Without the binaries it skips the test, or fails it if CI is set in the environment.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin := binaries(t)
	s, err := start(bin, false, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		_ = os.RemoveAll(s.dir)
	})
	return s
}

var shared = sync.OnceValues(func() (*Server, error) { return start(find(), true, []string{"fsync=off"}) })

// Shared returns a server that all tests of this process share. It ends with the process. It does
// not write through to the disk, and so is no place for a test of durability.
func Shared(t testing.TB) *Server {
	t.Helper()
	binaries(t)
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// binaries returns the folder of the binaries, or ends the test.
func binaries(t testing.TB) string {
	t.Helper()
	bin := find()
	switch {
	case bin != "":
	case os.Getenv("CI") != "":
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	default:
		t.Skip("PostgreSQL is not installed, so this test does not run: apt-get install postgresql")
	}
	return bin
}

// find returns the folder of the newest version that is installed, or "".
func find() string {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is valid
	if len(found) == 0 {
		return ""
	}
	number := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return number(a) - number(b) }))
}

func start(bin string, remove bool, settings []string) (*Server, error) {
	dir, err := os.MkdirTemp("", "otago-postgres-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, remove: remove, data: filepath.Join(dir, "data"), settings: settings}
	if os.Getuid() == 0 {
		if s.account, err = unprivileged(); err == nil {
			err = os.Chown(dir, s.account.uid, s.account.gid)
		}
		if err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", s.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	s.as(initdb)
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return s, s.Start()
}

func unprivileged() (*account, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.Atoi(u.Uid)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.Atoi(u.Gid)
		return &account{uid, gid}, err
	}
	return nil, errors.New("pgtest: PostgreSQL does not run as root, and there is no account nobody")
}

// A shell starts the server, and stops it when its input ends. Of a shared one it removes the
// folder.
const script = `"$@" & read -r line; kill -QUIT $!; wait $!; if [ -n "$REMOVE" ]; then rm -rf "$REMOVE"; fi`

// Start starts the server again after [Server.Kill], and waits until it answers.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	args := []string{"-c", script, "sh", filepath.Join(s.bin, "postgres"), "-D", s.data, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + s.dir}
	for _, setting := range append([]string{"max_connections=200", "shared_buffers=32MB"}, s.settings...) {
		args = append(args, "-c", setting)
	}
	s.child = exec.Command("sh", args...)
	s.as(s.child)
	if s.remove {
		s.child.Env = append(os.Environ(), "REMOVE="+s.dir)
	}
	alive, err := s.child.StdinPipe()
	if err != nil {
		return err
	}
	var log bytes.Buffer
	s.child.Stdout, s.child.Stderr, s.alive = &log, &log, alive
	if err := s.child.Start(); err != nil {
		return err
	}
	if err := s.answers(s.URL()); err != nil {
		s.stop()
		return fmt.Errorf("pgtest: the server does not answer: %w: %s", err, log.String())
	}
	return nil
}

// answers waits until a query is answered there. It asks with psql: this package, which the root
// module has for its nested ones, is no reason for a driver in the root's go.mod.
func (s *Server) answers(url string) error {
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		out, err := s.Command("psql", "-qXc", "SELECT 1", "-d", url).CombinedOutput()
		if err == nil {
			return nil
		}
		if errors.Is(err, exec.ErrNotFound) || time.Since(began) > 20*time.Second {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
}

// Kill ends the server at once, as a crash does: connections break, and the next start recovers.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

func (s *Server) stop() {
	if s.child != nil {
		_ = s.alive.Close()
		_ = s.child.Wait() // it fails, as the server was killed
		s.child = nil
	}
}

// URL returns the connection string of the database "postgres", for its superuser.
func (s *Server) URL() string { return "postgres:///postgres?user=postgres&host=" + s.dir }

// Command returns a command of PostgreSQL, such as psql, that finds the server.
func (s *Server) Command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name // the clients may be elsewhere
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+s.dir, "PGUSER=postgres", "PGDATABASE=postgres")
	return cmd
}

// Pooler starts PgBouncer before the server, in transaction mode, and stops it after the test. It
// returns its connection string. It skips or fails as [Start] does.
func (s *Server) Pooler(t testing.TB) (url string) {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	switch {
	case err == nil:
	case os.Getenv("CI") != "":
		t.Fatal("PgBouncer is not installed: apt-get install pgbouncer")
	default:
		t.Skip("PgBouncer is not installed, so this test does not run: apt-get install pgbouncer")
	}
	dir := filepath.Join(s.dir, "pooler")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	users, config := filepath.Join(dir, "users"), filepath.Join(dir, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
postgres = host=%s
[pgbouncer]
listen_addr =
unix_socket_dir = %s
auth_type = trust
auth_file = %s
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
`, s.dir, dir, users)
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o644), os.WriteFile(users, []byte("\"postgres\" \"\"\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if s.account != nil {
		if err := os.Chown(dir, s.account.uid, s.account.gid); err != nil {
			t.Fatal(err)
		}
	}
	pooler := exec.Command(path, config)
	s.as(pooler)
	var log bytes.Buffer
	pooler.Stdout, pooler.Stderr = &log, &log
	if err := pooler.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pooler.Process.Kill()
		_ = pooler.Wait() // it was killed
	})
	url = "postgres:///postgres?user=postgres&port=6432&host=" + dir
	if err := s.answers(url); err != nil {
		t.Fatalf("PgBouncer does not answer: %v: %s", err, log.String())
	}
	return url
}
