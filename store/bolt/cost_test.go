package bolt_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
)

// costCallers is how many goroutines update devices at once.
const costCallers = 128

// BenchmarkUpdate measures what the commits of whole updates cost, beside bbolt alone that stores
// four small records of each. Each operation is one update of a device.
func BenchmarkUpdate(b *testing.B) {
	b.Run("store", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "ota.db")
		db, err := bolt.Open(path, bolt.Config{})
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Commit(b.Context(), store.CreateImage{Image: playedImage}); err != nil {
			b.Fatal(err)
		}
		var commits atomic.Int64
		before := written(b, db)
		play := func(n int) error {
			for _, changes := range played(n) {
				commits.Add(1)
				if _, err := db.Commit(b.Context(), changes...); err != nil {
					return err
				}
			}
			return nil
		}
		measure(b, path, play)
		b.ReportMetric(float64(commits.Load())/float64(written(b, db)-before), "commits/transaction")
	})
	b.Run("bbolt", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "raw.db")
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			b.Fatal(err)
		}
		defer db.Close()
		name := []byte("records")
		if err := db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(name); return err }); err != nil {
			b.Fatal(err)
		}
		value := []byte(strings.Repeat("x", 150))
		measure(b, path, func(n int) error {
			for range 4 {
				err := db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(name).Put(fmt.Appendf(nil, "%026d", n), value) })
				if err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// measure plays b.N updates, and reports the bytes written and by how much the file has grown, for
// each of them.
func measure(b *testing.B, path string, play func(n int) error) {
	written, size := bytesWritten(b), fileSize(b, path)
	b.ReportAllocs()
	b.ResetTimer()
	var next atomic.Int64
	var callers sync.WaitGroup
	for range costCallers {
		callers.Go(func() {
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				if err := play(int(n)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	b.StopTimer()
	b.ReportMetric(float64(bytesWritten(b)-written)/float64(b.N), "written/op")
	b.ReportMetric(float64(fileSize(b, path)-size)/float64(b.N), "growth/op")
}

// written returns how many transactions have written to the file.
func written(b *testing.B, db *bolt.Store) (n int) {
	err := bolt.FileOf(db).View(func(tx *bbolt.Tx) error { n = tx.ID(); return nil })
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func fileSize(b *testing.B, path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return info.Size()
}

// bytesWritten returns how many bytes this process has sent to disks.
func bytesWritten(b *testing.B) int64 {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	var n int64
	_, rest, _ := strings.Cut(string(data), "\nwrite_bytes: ")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		b.Fatal(err)
	}
	return n
}

var playedImage = store.Image{
	ID: "00112233445566778899aabbccddeeff", Name: "sensor", Version: "1.1.0", Size: 4096,
	SHA256: strings.Repeat("0123456789abcdef", 4), Created: time.Now(),
}

// played returns the commits of one update: its creation and first step, the step before Write, the
// one before Execute, the end, and the Registers before and after. Every fourth endpoint has an
// update already, so that records are also found in the middle of a table.
func played(n int) [][]store.Change {
	at := time.Now().UTC().Truncate(time.Microsecond)
	endpoint := fmt.Sprintf("urn:imei:%015d", 350000000000000+int64(n*7919%1000003))
	plan := fsm.Plan{
		Target: playedImage.Version, Size: playedImage.Size, Digest: playedImage.SHA256,
	}
	m := fsm.NewUpdate(plan, at)
	u := store.Update{
		ID: fmt.Sprintf("01K%023d", n), Endpoint: endpoint, Image: playedImage.ID, Machine: m, Created: at, Changed: at,
	}
	lines := func(details ...string) store.Change {
		var events []store.Event
		for i, detail := range details {
			name, detail, _ := strings.Cut(detail, ": ")
			events = append(events, store.Event{
				Update: u.ID, Endpoint: endpoint, Time: at.Add(time.Duration(i)), Name: name, Detail: detail,
				Phase: u.Machine.Phase, State: u.Machine.State, Result: u.Machine.Result, Outcome: u.Machine.Outcome,
			})
		}
		return store.AppendEvents{Events: events}
	}
	registration := store.PutRegistration{Endpoint: endpoint, Registration: store.RegistrationRecord{
		ID: fmt.Sprintf("%016x", n), Address: "127.0.0.2:40000", Local: "127.0.0.1:5683", Transport: "coap", Version: "1.1",
		Lifetime: 86400 * time.Second, Binding: "U", Links: "</1/0>,</3/0>,</5/0>", Registered: at, Updated: at, LastSeen: at,
	}}
	replace := func() store.Change {
		change := store.ReplaceUpdate{Update: u}
		u.Revision++
		return change
	}
	var commits [][]store.Change
	commits = append(commits, []store.Change{registration})
	create := store.CreateUpdate{Update: u}
	u.Revision = 1
	u.Machine, _ = u.Machine.Step(fsm.Observation{Kind: fsm.ObserveStarted, At: at, Online: true, Lifetime: 86400 * time.Second})
	create.Update.Machine = u.Machine
	commits = append(commits, []store.Change{create, lines("created: image sensor 1.1.0, 4096 bytes", "started: the device is online")})
	u.Machine.OldVersion, u.Machine.Version = "1.0.0", "1.0.0"
	u.Machine.Protocol, u.Machine.Delivery, u.Machine.Attempt = fsm.ProtocolHTTP, fsm.DeliveryPull, 1
	u.Machine.Phase = fsm.PhaseTransferring
	commits = append(commits, []store.Change{replace(), lines("read: state idle, result default, version 1.0.0", "write_uri: attempt 1, by http")})
	u.Machine.Phase, u.Machine.State, u.Machine.Bytes = fsm.PhaseExecuting, fsm.Downloaded, 4096
	commits = append(commits, []store.Change{replace(), lines("uri_accepted: 2.04", "package_fetched: the device has fetched the whole package", "execute: the device holds the package")})
	commits = append(commits, []store.Change{registration})
	u.Machine.Phase, u.Machine.State, u.Machine.Result = fsm.PhaseEnded, fsm.Idle, fsm.ResultSuccess
	u.Machine.Outcome, u.Machine.Version, u.Machine.Ended = fsm.OutcomeSucceeded, "1.1.0", at
	commits = append(commits, []store.Change{replace(), lines("execute_accepted: 2.04", "registered: the device registered again", "read: state idle, result success, version 1.1.0", "succeeded: the device runs the target version"),
		store.PutFirmware{Endpoint: endpoint, Firmware: store.Firmware{
			State: new(fsm.Idle), Result: new(fsm.ResultSuccess), Version: "1.1.0", Protocols: []int{0, 2}, Delivery: new(fsm.PushAndPull), Read: at,
		}}})
	return commits
}
