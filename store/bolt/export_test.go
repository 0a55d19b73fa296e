package bolt

import (
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store/internal/kv"
)

// BackendOf returns the backend of the default namespace of a file.
func BackendOf(db *bbolt.DB) kv.Backend {
	return &backend{db: bboltFile{DB: db}, namespace: []byte(DefaultNamespace)}
}

// FileOf returns the file that a store has open.
func FileOf(s *Store) *bbolt.DB { return s.backend.db.DB }
