package lwm2m_test

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestParsePath(t *testing.T) {
	for text, want := range map[string]string{
		"": "/", "/": "/", "/5": "/5", "/5/0": "/5/0", "5/0/3": "/5/0/3", "/5/0/8/1": "/5/0/8/1",
		"/65534/65534/65534/65534": "/65534/65534/65534/65534", "0": "/0", "/0/0": "/0/0",
	} {
		p, err := lwm2m.ParsePath(text)
		require.NoError(t, err, text)
		require.Equal(t, want, p.String())
		require.Equal(t, strings.Count(strings.TrimPrefix(want, "/"), "/")+min(len(want)-1, 1), p.Len())
	}
	for _, text := range []string{
		"//", "/5/", "/5//0", "/65535", "/5/65535", "/5/0/3/0/0", "/a", "/-1", "/+1", "/05", "/00", " /5", "/5 ",
		"/99999999999999999999", "/5/0/x", "/5.0",
	} {
		_, err := lwm2m.ParsePath(text)
		require.ErrorIs(t, err, lwm2m.ErrPath, text)
	}
}

func TestPathLevels(t *testing.T) {
	p := lwm2m.NewPath(5, 0, 8, 2)
	require.True(t, p.IsResourceInstance())
	require.Equal(t, []uint16{5, 0, 8, 2}, []uint16{p.Object(), p.Instance(), p.Resource(), p.ResourceInstance()})
	require.Equal(t, lwm2m.NewPath(5, 0, 8), p.Parent())
	require.True(t, p.Parent().IsResource())
	require.Equal(t, lwm2m.NoID, p.Parent().ResourceInstance())
	require.True(t, p.Prefix(2).IsInstance())
	require.True(t, p.Prefix(1).IsObject())
	require.True(t, p.Prefix(0).IsRoot())
	require.Equal(t, p, p.Prefix(9))
	require.Equal(t, lwm2m.Path{}, p.Prefix(-1))
	require.Equal(t, lwm2m.NoID, lwm2m.Path{}.Object())
	require.Equal(t, lwm2m.Path{}, lwm2m.Path{}.Parent())

	for _, bad := range [][]uint16{{lwm2m.NoID}, {5, lwm2m.NoID}, {1, 2, 3, 4, 5}} {
		require.Panics(t, func() { lwm2m.NewPath(bad...) })
	}
	_, err := p.Child(0)
	require.ErrorIs(t, err, lwm2m.ErrPath)
	_, err = p.Parent().Child(lwm2m.NoID)
	require.ErrorIs(t, err, lwm2m.ErrPath)
	child, err := p.Parent().Child(2)
	require.NoError(t, err)
	require.Equal(t, p, child)
}

func TestPathContains(t *testing.T) {
	root, object, instance := lwm2m.Path{}, lwm2m.NewPath(5), lwm2m.NewPath(5, 0)
	for _, p := range []lwm2m.Path{root, object, instance} {
		require.True(t, p.Contains(instance))
		require.True(t, p.Contains(p))
	}
	require.False(t, instance.Contains(object))
	require.False(t, instance.Contains(lwm2m.NewPath(5, 1)))
	require.False(t, lwm2m.NewPath(0).Contains(instance), "identifier 0 is not a missing level")
	require.NotEqual(t, lwm2m.NewPath(0), root)
}

func TestPathOrder(t *testing.T) {
	want := []string{"/", "/3", "/3/0", "/3/0/2", "/3/0/10", "/3/0/10/0", "/3/1", "/5"}
	var paths []lwm2m.Path
	for _, s := range want {
		paths = append(paths, mustPath(t, s))
	}
	slices.Reverse(paths)
	slices.SortFunc(paths, lwm2m.Path.Compare)
	for i, p := range paths {
		require.Equal(t, want[i], p.String())
	}
}

func TestPathText(t *testing.T) {
	in := map[lwm2m.Path]int{lwm2m.NewPath(5, 0, 3): 1, {}: 2}
	b, err := json.Marshal(in)
	require.NoError(t, err)
	require.JSONEq(t, `{"/":2,"/5/0/3":1}`, string(b))
	var out map[lwm2m.Path]int
	require.NoError(t, json.Unmarshal(b, &out))
	require.Equal(t, in, out)
	require.ErrorIs(t, new(lwm2m.Path).UnmarshalText([]byte("/x")), lwm2m.ErrPath)
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"", "/", "/5/0/3", "5/0", "/65535", "/1/2/3/4/5", "/00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := lwm2m.ParsePath(s)
		if err != nil {
			return
		}
		again, err := lwm2m.ParsePath(p.String())
		require.NoError(t, err)
		require.Equal(t, p, again)
		require.Equal(t, strings.Trim(s, "/"), strings.Trim(p.String(), "/"))
	})
}

func TestVersion(t *testing.T) {
	for _, s := range []string{"1.0", "1.1", "21.37", "255.255"} {
		v, err := lwm2m.ParseVersion(s)
		require.NoError(t, err)
		require.Equal(t, s, v.String())
	}
	for _, s := range []string{"", "1", "1.", ".1", "1.2.3", "256.0", "-1.0", "1.0 ", "a.b"} {
		_, err := lwm2m.ParseVersion(s)
		require.Error(t, err, s)
	}
	low, high := lwm2m.Version{Major: 1, Minor: 9}, lwm2m.Version{Major: 2}
	require.Negative(t, low.Compare(high))
	require.Positive(t, high.Compare(low))
	require.Zero(t, low.Compare(low))
}

// TestPathsOfLargeIdentifiers compares paths with identifiers at the ends of their range, at each
// level.
func TestPathsOfLargeIdentifiers(t *testing.T) {
	ids := []uint16{0, 1, 0x8000, 0xfffe}
	var ascending []lwm2m.Path
	for _, a := range ids {
		for _, b := range ids {
			for _, c := range ids {
				for _, d := range ids {
					ascending = append(ascending, lwm2m.NewPath(a, b, c, d))
				}
			}
		}
	}
	for i, p := range ascending {
		for j, q := range ascending {
			require.Equal(t, cmp.Compare(i, j), p.Compare(q), "%v %v", p, q)
			for n := range 5 {
				require.Equal(t, p.Prefix(n) == q.Prefix(n), p.Prefix(n).Contains(q), "%v %v", p.Prefix(n), q)
			}
		}
	}
}

// TestLeadingZeros: names in SenML may have leading zeros, up to five digits.
func TestLeadingZeros(t *testing.T) {
	decode := func(name string) error {
		_, err := lwm2m.DecodePayload(lwm2m.FormatSenMLJSON, lwm2m.NewPath(5, 0, 3), []byte(`[{"n":"`+name+`","v":2}]`), nil)
		return err
	}
	require.NoError(t, decode("/00005/0/00003"))
	require.Error(t, decode("/000005/0/3"))
	require.Error(t, decode("/5/0/000003"))
}
