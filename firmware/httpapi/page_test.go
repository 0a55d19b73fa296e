package httpapi

import (
	"errors"
	"fmt"
	"iter"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/store"
)

// TestUpdateJSON: an update appends the JSON that package json makes of it.
func TestUpdateJSON(t *testing.T) {
	same := func(u updateView) {
		t.Helper()
		want, err := marshal(&u)
		require.NoError(t, err)
		require.Equal(t, string(want), string(u.appendJSON(nil))+"\n")
	}
	same(updateView{Holds: []holdView{}})
	same(updateView{Labels: labels{}, Holds: []holdView{}, Journal: []any{}})
	for _, text := range []string{"text", `"quoted\" <&>`, "\x00\x7f\n", "Gerät\u2028", "\xff\xc3("} {
		var u updateView
		set(t, reflect.ValueOf(&u).Elem(), text)
		same(u)
	}
}

// set sets all fields of a value.
func set(t *testing.T, v reflect.Value, text string) {
	switch at := v.Addr().Interface().(type) {
	case *time.Time:
		*at = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
		return
	case *any:
		*at = lineView{Event: text}
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int, reflect.Int64:
		v.SetInt(-int64(len(text)))
	case reflect.Struct:
		for i := range v.NumField() {
			set(t, v.Field(i), text)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		set(t, v.Elem(), text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		set(t, v.Index(0), text)
		set(t, v.Index(1), text)
	case reflect.Map:
		v.Set(reflect.ValueOf(labels{text: text, "b": ""}))
	default:
		t.Fatalf("a field of type %v", v.Type())
	}
}

// TestWritePage: pages are what package json makes of them, whatever their items are.
func TestWritePage(t *testing.T) {
	broken := errors.New("the disk is away")
	records := func(n int, last error) iter.Seq2[int, error] {
		return func(yield func(int, error) bool) {
			for i := range n {
				var err error
				if i == 1 {
					err = &store.DamagedError{Kind: store.KindUpdate, Key: fmt.Sprint(i), Err: errors.New("<bits>")}
				}
				if !yield(i, err) {
					return
				}
			}
			if last != nil {
				yield(n, last)
			}
		}
	}
	for n := range 5 {
		for _, last := range []error{nil, store.ErrShort, broken} {
			w := httptest.NewRecorder()
			err := writePage(w, 3, "k", records(n, last), func(n int) string { return fmt.Sprint(n) }, func(n int) updateView { return updateView{ID: fmt.Sprint(n), Holds: []holdView{}} })
			if last == broken && n <= 3 {
				require.ErrorIs(t, err, broken)
				require.Empty(t, w.Body.String())
				continue
			}
			require.NoError(t, err)
			want := page{Items: []any{}}
			for i := range min(n, 3) {
				if i == 1 {
					want.Items = append(want.Items, damagedView{ID: "1", Damaged: "<bits>"})
				} else {
					want.Items = append(want.Items, updateView{ID: fmt.Sprint(i), Holds: []holdView{}})
				}
			}
			if n > 3 {
				want.Next = newCursor("k", "2")
			} else if last != nil {
				want.Next = newCursor("k", fmt.Sprint(n))
			}
			text, err := marshal(want)
			require.NoError(t, err)
			require.Equal(t, string(text), w.Body.String(), "%d records, then %v", n, last)
		}
	}
}
