package bolt_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// childEnv names the file that this binary, run again as a child, writes to until it is killed.
const childEnv = "OTAGO_TEST_BOLT_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		fmt.Fprintln(os.Stderr, child(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// child creates and ends updates, from several goroutines, and prints which ones Commit
// acknowledged.
func child(path string) error {
	db, err := bolt.Open(path, bolt.Config{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if _, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "i", Version: "1"}}); err != nil && !errors.Is(err, store.ErrExists) {
		return err
	}
	life := rand.Uint32()
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			endpoint := fmt.Sprint("ep", w)
			for u := range db.Updates(ctx, store.UpdateQuery{Endpoint: endpoint, Active: true}) {
				end(ctx, db, u)
			}
			for n := 0; ; n++ {
				u := store.Update{
					ID: fmt.Sprintf("%08x-%d-%06d", life, w, n), Endpoint: endpoint, Image: "i", Machine: fsm.NewUpdate(fsm.Plan{}, time.Now()),
				}
				if _, err := db.Commit(ctx, store.CreateUpdate{Update: u}, line(u, "created")); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Println("created", u.ID)
				u.Revision = 1
				end(ctx, db, u)
			}
		})
	}
	workers.Wait()
	return nil
}

func end(ctx context.Context, db store.Store, u store.Update) {
	u.Machine.Outcome = fsm.OutcomeCancelled
	if _, err := db.Commit(ctx, store.ReplaceUpdate{Update: u}, line(u, "ended")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ended", u.ID)
}

func line(u store.Update, name string) store.Change {
	return store.AppendEvents{Events: []store.Event{{Update: u.ID, Endpoint: u.Endpoint, Name: name}}}
}

// TestKilled kills, several times, a process that writes: every acknowledged commit is there, and
// whole.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ota.db")
	acknowledged := map[string]int{} // update -> commits
	for range 8 {
		runChild(t, path, acknowledged, 20+rand.IntN(400))
		check(t, path, acknowledged)
	}
	if len(acknowledged) < 50 {
		t.Errorf("only %d updates were acknowledged", len(acknowledged))
	}
}

// runChild runs a child until it has acknowledged the given number of commits, and kills it.
func runChild(t *testing.T, path string, acknowledged map[string]int, commits int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	reader := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == commits {
			_ = cmd.Process.Kill()
		}
		text, err := reader.ReadString('\n') // lines that it printed before it died count
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		if _, id, ok := strings.Cut(strings.TrimSpace(text), " "); ok {
			acknowledged[id]++
		}
	}
	_ = cmd.Wait()
	if stderr.Len() > 0 {
		t.Fatalf("child: %s", stderr.String())
	}
}

func check(t *testing.T, path string, acknowledged map[string]int) {
	t.Helper()
	db, err := bolt.Open(path, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := t.Context()
	for id, commits := range acknowledged {
		u, err := db.Update(ctx, id)
		if err != nil || u.Revision < uint64(commits) {
			t.Fatalf("update %s with %d acknowledged commits: revision %d, %v", id, commits, u.Revision, err)
		}
	}
	for u, err := range db.Updates(ctx, store.UpdateQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for _, err := range db.Events(ctx, store.EventQuery{Update: u.ID}) {
			if err != nil {
				t.Fatal(err)
			}
			lines++
		}
		if lines != int(u.Revision) || u.Active() != (u.Revision == 1) {
			t.Fatalf("update %s: revision %d, %d lines, active %v", u.ID, u.Revision, lines, u.Active())
		}
	}
}

// TestGroupCommit has many callers, whose commits must share transactions.
func TestGroupCommit(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	db, err := bolt.New(file, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	before := transactions(t, file)
	const callers, each = 100, 20
	var work sync.WaitGroup
	for c := range callers {
		work.Go(func() {
			for n := range each {
				if _, err := db.Commit(t.Context(), store.PutFirmware{Endpoint: fmt.Sprint(c, "-", n)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	if n := transactions(t, file) - before; n > callers*each/4 {
		t.Errorf("%d commits of %d callers took %d transactions", callers*each, callers, n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// transactions returns how many transactions have written the file.
func transactions(t *testing.T, file *bbolt.DB) (n int) {
	t.Helper()
	if err := file.View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestNothingLeft ends and deletes everything: no index keeps an entry.
func TestNothingLeft(t *testing.T) {
	file, err := bbolt.Open(filepath.Join(t.TempDir(), "ota.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	db, err := bolt.New(file, bolt.Config{})
	if err != nil {
		t.Fatal(err)
	}
	u := store.Update{
		ID: "u", Endpoint: "ep", Image: "i", Key: "k", Labels: map[string]string{"site": "a"}, Machine: fsm.NewUpdate(fsm.Plan{}, time.Now()),
	}
	ended := u
	ended.Revision, ended.Machine.Outcome = 1, fsm.OutcomeSucceeded
	for _, change := range []store.Change{
		store.CreateImage{Image: store.Image{ID: "i", Version: "1"}}, store.CreateUpdate{Update: u},
		store.AppendEvents{Events: []store.Event{{Update: "u", Name: "created", Time: time.Now()}}},
		store.PutRegistration{Endpoint: "ep", Registration: store.RegistrationRecord{ID: "r", Secured: true}},
		store.ReplaceUpdate{Update: ended}, store.DeleteUpdate{ID: "u"}, store.DeleteImage{ID: "i"}, store.DeleteDevice{Endpoint: "ep"},
	} {
		if _, err := db.Commit(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil { // the log goes into the tables
		t.Fatal(err)
	}
	err = file.View(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte(bolt.DefaultNamespace)).ForEachBucket(func(name []byte) error {
			key, _ := tx.Bucket([]byte(bolt.DefaultNamespace)).Bucket(name).Cursor().First()
			if key != nil && string(name) != "meta" {
				t.Errorf("%s keeps %q", name, key)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}
