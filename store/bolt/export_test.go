package bolt

import (
	"go.etcd.io/bbolt"

	"github.com/otago-iot/otago/store/internal/kv"
)

// BackendOf returns the back end of a store.
func BackendOf(s *Store) kv.Backend { return s.logged }

// BelowOf returns the back end below the log of a store.
func BelowOf(s *Store) kv.Backend { return s.backend }

// FileOf returns the file that a store has open.
func FileOf(s *Store) *bbolt.DB { return s.backend.db.DB }

// HasFreelist reports whether a file has a list of its free pages.
var HasFreelist = hasFreelist

// ReadAhead reads a file that has none.
var ReadAhead = readAhead
