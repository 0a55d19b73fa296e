package kv

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
)

// FuzzMap runs operations, two bytes each, on a Map and on a map: both stay the same.
func FuzzMap(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 2, 1, 1, 0, 1})
	up, down := make([]byte, 0, 2048), make([]byte, 0, 2048)
	for n := range 1024 {
		up = append(up, byte(n>>8), byte(n))
		down = append(down, byte(3-n>>8), byte(255-n))
	}
	f.Add(up)
	f.Add(down)
	f.Add(append(slices.Clone(up), down...))
	f.Fuzz(func(t *testing.T, ops []byte) {
		var got Map
		want := map[string][]byte{}
		for n := 0; n+1 < len(ops); n += 2 {
			key := fmt.Sprintf("%04d", (int(ops[n])<<8|int(ops[n+1]))%1024)
			if ops[n] >= 128 {
				got.Delete([]byte(key))
				delete(want, key)
			} else {
				got.Put([]byte(key), ops[n:n+2])
				want[key] = ops[n : n+2]
			}
		}
		keys := slices.Sorted(maps.Keys(want))
		for _, page := range got.pages {
			if len(page) == 0 || len(page) > maxPage {
				t.Fatalf("a page has %d entries", len(page))
			}
		}
		same(t, got.Ascend(nil), keys, want)
		slices.Reverse(keys)
		same(t, got.Descend(nil), keys, want)
		slices.Reverse(keys)
		for _, at := range []string{"0000", "0100", "0511", "0512x", "1023", "9"} {
			i, _ := slices.BinarySearch(keys, at)
			same(t, got.Ascend([]byte(at)), keys[i:], want)
			before := slices.Clone(keys[:i])
			slices.Reverse(before)
			same(t, got.Descend([]byte(at)), before, want)
			if value, _ := got.Get([]byte(at)); string(value) != string(want[at]) {
				t.Fatalf("get(%s) = %v, want %v", at, value, want[at])
			}
		}
	})
}

func same(t *testing.T, seq iter.Seq2[[]byte, []byte], keys []string, want map[string][]byte) {
	t.Helper()
	got := []string{}
	for key, value := range seq {
		got = append(got, string(key))
		if string(value) != string(want[string(key)]) {
			t.Fatalf("%s has %v, want %v", key, value, want[string(key)])
		}
	}
	if !slices.Equal(got, keys) {
		t.Fatalf("keys %v, want %v", got, keys)
	}
}
