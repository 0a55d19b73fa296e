package index

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

type item struct{ key, value int }

// TestIndex compares an index with a map, also when many keys have the same hash.
func TestIndex(t *testing.T) {
	for name, hash := range map[string]func(int) uint64{
		"a good hash":   nil,
		"a few hashes":  func(k int) uint64 { return uint64(k % 3) },
		"only one hash": func(int) uint64 { return 7 },
	} {
		t.Run(name, func(t *testing.T) {
			x := New(func(v *item) int { return v.key })
			if hash != nil {
				x.hash = hash
			}
			want := make(map[int]*item)
			random := rand.New(rand.NewPCG(1, 2))
			for i := range 20_000 {
				k := random.IntN(50)
				if random.IntN(2) == 0 {
					v := &item{k, i}
					x.Put(v)
					want[k] = v
				} else {
					x.Delete(k)
					delete(want, k)
				}
				k = random.IntN(50)
				require.Same(t, want[k], x.Get(k))
				require.Equal(t, len(want), x.Len())
			}
			all := slices.Collect(x.All())
			require.Len(t, all, len(want))
			for _, v := range all {
				require.Same(t, want[v.key], v)
			}
			for range x.All() {
				break
			}
		})
	}
}
