package bolt

import (
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store/internal/kv"
)

// BackendOf returns what the default namespace of a file keeps its records in.
func BackendOf(db *bbolt.DB) kv.Backend { return &backend{db: db, namespace: []byte(DefaultNamespace)} }
