package memory

import "github.com/otago-iot/otago/store/internal/kv"

// NewOver returns an empty store, and its backend.
func NewOver() (*Store, kv.Backend) {
	b := &backend{}
	s, err := kv.New(b, false)
	if err != nil {
		panic(err)
	}
	return &Store{s, s, s}, b
}
