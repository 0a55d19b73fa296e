package bolt_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store"
)

// BenchmarkBaseline puts a device's record with bbolt alone: the cost of a store without rules and
// indexes.
func BenchmarkBaseline(b *testing.B) {
	value, err := json.Marshal(store.Device{Registration: store.RegistrationRecord{
		ID: "r", Address: "192.0.2.1:5683", Transport: "coap", Version: "1.1", Lifetime: 300 * time.Second,
		Links: "</1/0>,</3/0>,</5/0>", Registered: time.Now(), LastSeen: time.Now(),
	}})
	if err != nil {
		b.Fatal(err)
	}
	for _, bench := range []struct {
		name  string
		write func(*bbolt.DB, func(*bbolt.Tx) error) error
	}{
		{"update", (*bbolt.DB).Update},
		{"batch", (*bbolt.DB).Batch},
	} {
		run := func(b *testing.B, callers int) {
			db, err := bbolt.Open(filepath.Join(b.TempDir(), "raw.db"), 0o600, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			var n atomic.Int64
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := []byte(fmt.Sprint("ep", n.Add(1)))
					err := bench.write(db, func(tx *bbolt.Tx) error {
						bucket, err := tx.CreateBucketIfNotExists([]byte("devices"))
						if err != nil {
							return err
						}
						return bucket.Put(key, value)
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		b.Run(bench.name+"/many callers", func(b *testing.B) { run(b, 64) })
	}
}
