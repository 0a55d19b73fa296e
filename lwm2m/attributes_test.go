package lwm2m_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestAttributes(t *testing.T) {
	s, err := lwm2m.ParseAttributes("pmin=0", "pmax=60", "st=0.5", "gt", "con=1", "edge=0", "hqmax=5", "lt=-3")
	require.NoError(t, err)
	require.True(t, s.Cleared(lwm2m.AttributeGT))
	require.Equal(t, []string{"pmin=0", "pmax=60", "gt", "lt=-3", "st=0.5", "edge=0", "con=1", "hqmax=5"}, s.Queries())
	pmax, ok := s.Get(lwm2m.AttributePMax)
	require.True(t, ok)
	require.InDelta(t, 60, pmax, 0)
	_, ok = s.Get(lwm2m.AttributeGT)
	require.False(t, ok)

	var before lwm2m.Attributes
	require.NoError(t, before.Set(lwm2m.AttributeGT, 7))
	require.NoError(t, before.Set(lwm2m.AttributePMin, 7))
	after := before.Apply(s)
	require.Equal(t, []string{"pmin=0", "pmax=60", "lt=-3", "st=0.5", "edge=0", "con=1", "hqmax=5"}, after.Queries())

	var lower lwm2m.Attributes
	require.NoError(t, lower.Set(lwm2m.AttributePMin, 1))
	require.Equal(t, []string{"pmin=1", "gt=7"}, lower.Inherit(before).Queries())
	lower.Clear(lwm2m.AttributePMin)
	require.NoError(t, lower.Set(lwm2m.AttributePMin, 2))
	require.Equal(t, []string{"pmin=2"}, lower.Queries())
	require.False(t, lower.Cleared(lwm2m.AttributePMin))
	require.False(t, lower.IsZero())
	require.True(t, lwm2m.Attributes{}.IsZero())
}

func TestAttributesRefuse(t *testing.T) {
	for _, q := range [][]string{
		{"pmin=-1"}, {"pmin=1.5"}, {"pmin=4294967296"}, {"pmin="}, {"pmin=1e"}, {"pmax=0x1"}, {"st=0"}, {"st=-1"},
		{"edge=2"}, {"con=-1"}, {"unknown=1"}, {""}, {"pmin=1", "pmin=2"}, {"pmin", "pmin"}, {"gt=Inf"}, {"gt=NaN"}, {"gt=1e999"},
	} {
		_, err := lwm2m.ParseAttributes(q...)
		require.ErrorIs(t, err, lwm2m.ErrAttribute, q)
	}
	var s lwm2m.Attributes
	require.ErrorIs(t, s.Set(lwm2m.Attribute(99), 1), lwm2m.ErrAttribute)
	s.Clear(lwm2m.Attribute(99))
	require.True(t, s.IsZero())
	for queries, good := range map[string]bool{
		"pmin=10 pmax=9": false, "pmin=10 pmax=10": true, "epmin=2 epmax=1": false,
		"lt=1 gt=3 st=1": false, "lt=1 gt=3.5 st=1": true, "lt=5 gt=1": true, "": true,
	} {
		s, err := lwm2m.ParseAttributes(strings.Fields(queries)...)
		require.NoError(t, err)
		require.Equal(t, good, s.Check() == nil, queries)
		if !good {
			require.ErrorIs(t, s.Check(), lwm2m.ErrAttribute)
		}
	}
}

func FuzzParseAttributes(f *testing.F) {
	f.Add("pmin=1&pmax=2&gt=3.5&lt&st=1e3")
	f.Fuzz(func(t *testing.T, query string) {
		s, err := lwm2m.ParseAttributes(strings.Split(query, "&")...)
		if err != nil {
			require.ErrorIs(t, err, lwm2m.ErrAttribute)
			return
		}
		again, err := lwm2m.ParseAttributes(s.Queries()...)
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
