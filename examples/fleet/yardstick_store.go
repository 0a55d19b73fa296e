package main

import (
	"encoding/binary"
	"time"

	"go.etcd.io/bbolt"
)

// yardstickStore appends records to a bbolt file. What comes during a transaction is the next one.
type yardstickStore struct {
	db      *bbolt.DB
	records chan record
	closed  chan error
	kinds   tally[string]
}

// record is something that a yardstick makes durable.
type record struct {
	kind, endpoint, version string
	done                    func() // called when it is durable
}

// maxRecords limits the records that wait.
const maxRecords = 1 << 20

// A transaction has maxBatch records, or what came within batchTime. Otherwise the number of its
// records, and so the cost of one, would depend on how busy the machine is.
const (
	maxBatch  = 32
	batchTime = 20 * time.Millisecond
)

var yardstickBucket = []byte("records")

func openYardstickStore(file string) (*yardstickStore, error) {
	db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	s := &yardstickStore{db: db, records: make(chan record, maxRecords), closed: make(chan error, 1)}
	go func() { s.closed <- s.write() }()
	return s, nil
}

func (s *yardstickStore) name() string { return s.db.Path() }

// put makes a record durable later, and then calls its done.
func (s *yardstickStore) put(r record) {
	s.kinds.add(r.kind)
	s.records <- r
}

// write stores records until there are no more.
func (s *yardstickStore) write() error {
	var batch []record
	for r := range s.records {
		batch = append(batch[:0], r)
		for late := time.After(batchTime); late != nil && len(batch) < maxBatch; {
			select {
			case r, ok := <-s.records:
				if !ok {
					late = nil
					break
				}
				batch = append(batch, r)
			case <-late:
				late = nil
			}
		}
		err := s.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(yardstickBucket)
			if err != nil {
				return err
			}
			b.FillPercent = 0.95 // keys rise
			for _, r := range batch {
				n, err := b.NextSequence()
				if err != nil {
					return err
				}
				var key [8]byte
				binary.BigEndian.PutUint64(key[:], n)
				value := binary.BigEndian.AppendUint64(make([]byte, 0, 200), uint64(time.Now().UnixNano()))
				value = append(append(append(value, r.kind...), r.endpoint...), r.version...)
				if err := b.Put(key[:], value[:cap(value)]); err != nil { // as long as a small record of an update
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, r := range batch {
			r.done()
		}
	}
	return nil
}

func (s *yardstickStore) close() error {
	close(s.records)
	err := <-s.closed
	if closeErr := s.db.Close(); err == nil {
		err = closeErr
	}
	return err
}
