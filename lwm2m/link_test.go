package lwm2m_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func version(major, minor uint8) lwm2m.Version { return lwm2m.Version{Major: major, Minor: minor} }

func TestParseObjectList(t *testing.T) {
	for name, tc := range map[string]struct {
		payload string
		want    lwm2m.ObjectList
		out     string // what Append makes of it; "" for the payload itself
	}{
		"empty": {},
		"1.1 with versions": {
			payload: `</>;rt="oma.lwm2m";ct="110 112",</1>;ver=1.1,</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
			want: lwm2m.ObjectList{
				Formats: []lwm2m.ContentFormat{lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR},
				Objects: []lwm2m.ListedObject{
					{ID: 1, Version: version(1, 1), Instances: []uint16{0}},
					{ID: 3, Instances: []uint16{0}},
					{ID: 5, Version: version(1, 1), Instances: []uint16{0}},
				},
			},
		},
		"Anjay 1.0, quoted version": {
			payload: `</1/1>,</2>,</10>;ver="1.1",</10/0>`,
			want: lwm2m.ObjectList{Objects: []lwm2m.ListedObject{
				{ID: 1, Instances: []uint16{1}}, {ID: 2}, {ID: 10, Version: version(1, 1), Instances: []uint16{0}},
			}},
			out: `</1/1>,</2>,</10>;ver=1.1,</10/0>`,
		},
		"Wakaama": {
			payload: `</>;rt="oma.lwm2m";ct=110,</1>;ver=1.1,</1/0>,</31024>;ver=1.0,</31024/10>,</31024/11>`,
			want: lwm2m.ObjectList{
				Formats: []lwm2m.ContentFormat{lwm2m.FormatSenMLJSON},
				Objects: []lwm2m.ListedObject{
					{ID: 1, Version: version(1, 1), Instances: []uint16{0}},
					{ID: 31024, Version: version(1, 0), Instances: []uint16{10, 11}},
				},
			},
			out: `</>;rt="oma.lwm2m";ct=110,</1>;ver=1.1,</1/0>,</31024/10>,</31024/11>`,
		},
		"root without rt": {
			payload: `</>;ct="110 112",</3/0>`,
			want: lwm2m.ObjectList{
				Formats: []lwm2m.ContentFormat{lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR},
				Objects: []lwm2m.ListedObject{{ID: 3, Instances: []uint16{0}}},
			},
			out: `</>;rt="oma.lwm2m";ct="110 112",</3/0>`,
		},
		"alternate path": {
			payload: `</lwm2m>;rt="oma.lwm2m",</lwm2m/1/101>,</lwm2m/5>,</other/1>`,
			want: lwm2m.ObjectList{Root: "/lwm2m", Objects: []lwm2m.ListedObject{
				{ID: 1, Instances: []uint16{101}}, {ID: 5},
			}},
			out: `</lwm2m>;rt="oma.lwm2m",</lwm2m/1/101>,</lwm2m/5>`,
		},
		"alternate path with a slash": {
			payload: `</lwm2m/>;rt="oma.lwm2m";ct=112,</lwm2m/3/0>`,
			want: lwm2m.ObjectList{
				Root: "/lwm2m", Formats: []lwm2m.ContentFormat{lwm2m.FormatSenMLCBOR},
				Objects: []lwm2m.ListedObject{{ID: 3, Instances: []uint16{0}}},
			},
			out: `</lwm2m>;rt="oma.lwm2m";ct=112,</lwm2m/3/0>`,
		},
		"unsorted, repeated and foreign links": {
			payload: `</9/1>,</9/0>,</9/0>,</3/0>,</well-known>,</3/0/1>,</65535>,</4/>`,
			want: lwm2m.ObjectList{Objects: []lwm2m.ListedObject{
				{ID: 3, Instances: []uint16{0}}, {ID: 4}, {ID: 9, Instances: []uint16{0, 1}},
			}},
			out: `</3/0>,</4>,</9/0>,</9/1>`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := lwm2m.ParseObjectList([]byte(tc.payload))
			require.NoError(t, err)
			require.Equal(t, tc.want, list)
			out := list.Append(nil)
			if tc.out == "" {
				tc.out = tc.payload
			}
			require.Equal(t, tc.out, string(out))
		})
	}
}

func TestObjectListLookUp(t *testing.T) {
	list, err := lwm2m.ParseObjectList([]byte(`</3/0>,</5>;ver=1.1,</5/0>,</9>`))
	require.NoError(t, err)
	require.Equal(t, version(1, 0), list.Version(3))
	require.Equal(t, version(1, 1), list.Version(5))
	require.Equal(t, lwm2m.Version{}, list.Version(4))
	for path, want := range map[string]bool{
		"/": true, "/3": true, "/3/0": true, "/3/0/3": true, "/3/1": false, "/9": true, "/9/0": false, "/4": false,
	} {
		require.Equal(t, want, list.Has(mustPath(t, path)), path)
	}
}

func TestParseObjectListRefuses(t *testing.T) {
	for payload, offset := range map[string]int{
		`</5`: 3, `</5>;ct="60 110`: 15, `</5>x`: 4, `</5>;=1`: 5, `junk`: 0, `</5>,"`: 5, "</5>;x=\"\xff\"": 8, "</\x01>": 2, `</5>;a b`: 7,
		"</5>\x00,</3/0>": 4, `<</5>`: 1, `</5>;ver="1.1`: 13,
		strings.Repeat("</1>,", 5000) + "</1>": 5 * 4096,
	} {
		_, err := lwm2m.ParseObjectList([]byte(payload))
		requireMalformed(t, err, []byte(payload))
		fe, _ := errors.AsType[*lwm2m.FormatError](err)
		require.Equal(t, offset, fe.Offset, payload)
	}
}

func TestParseLinksRefusesBytes(t *testing.T) {
	for payload, offset := range map[string]int{
		"</1>;a=\"b\xff\"": 8, "</1>;a=\"b\x00\"": 9, "</1>;a=\"b\\\n\"": 10, "</1>;a=\"\x7f\"": 8, "</1>;a=\"é\\": 11,
	} {
		_, err := lwm2m.ParseLinks([]byte(payload))
		fe, ok := errors.AsType[*lwm2m.FormatError](err)
		require.True(t, ok, "%q", payload)
		require.Equal(t, offset, fe.Offset, "%q", payload)
	}
	links, err := lwm2m.ParseLinks([]byte("</1>;a=\"é\t\\\"\\\\\""))
	require.NoError(t, err)
	require.Equal(t, "é\t\"\\", links[0].Attributes[0].Value)
}

func TestParseDiscoverOffset(t *testing.T) {
	_, err := lwm2m.ParseDiscover([]byte(`</5/0>,</5/0/3>;pmin=0;pmax=x,</5/0/8>`), "")
	fe, ok := errors.AsType[*lwm2m.FormatError](err)
	require.True(t, ok)
	require.Equal(t, 7, fe.Offset)
}

// TestLinksThatAreCut checks the error for a target that ends after an encoded byte, or within one.
func TestLinksThatAreCut(t *testing.T) {
	for text, want := range map[string]string{"</%41": "target without end", "</%4": "bad percent-encoding", "</%": "bad percent-encoding"} {
		_, err := lwm2m.ParseLinks([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func TestAppendLinksQuotes(t *testing.T) {
	out := lwm2m.AppendLinks([]byte("x"), []lwm2m.Link{{Target: "/a", Attributes: []lwm2m.LinkAttribute{
		{Name: "n", Value: "a b", HasValue: true}, {Name: "q", Value: `"\`, HasValue: true, Quoted: true},
		{Name: "e", HasValue: true},
	}}})
	require.Equal(t, `x</a>;n="a b";q="\"\\";e=""`, string(out))
}

func TestDiscover(t *testing.T) {
	attributes, err := lwm2m.ParseAttributes("pmin=1", "pmax=3", "gt=50", "lt=42.2", "epmin=3")
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		payload, root string
		want          []lwm2m.Discovered
		out           string
	}{
		"resource with attributes": {
			payload: `</3/0/7>;dim=8;pmax=3;pmin=1;gt=50;lt=42.2;epmin=3,</3/0/7/0>`,
			want: []lwm2m.Discovered{
				{Path: lwm2m.NewPath(3, 0, 7), Dimension: 8, Attributes: attributes},
				{Path: lwm2m.NewPath(3, 0, 7, 0), Dimension: -1},
			},
			out: `</3/0/7>;dim=8;pmin=1;pmax=3;gt=50;lt=42.2;epmin=3,</3/0/7/0>`,
		},
		"bootstrap": {
			payload: `</>;lwm2m=1.0,</0/0>;ssid=111;uri="coap://localhost:11",</1>;ver=2.0,</3/0>`,
			want: []lwm2m.Discovered{
				{Dimension: -1, Version: version(1, 0)},
				{Path: lwm2m.NewPath(0, 0), Dimension: -1, ShortServerID: 111, ServerURI: "coap://localhost:11"},
				{Path: lwm2m.NewPath(1), Dimension: -1, Version: version(2, 0)},
				{Path: lwm2m.NewPath(3, 0), Dimension: -1},
			},
		},
		"alternate path, unknown attributes and links": {
			payload: `</lwm2m/5/0>;x=1;pmin,</lwm2m2>,</a>`, root: "/lwm2m",
			want: []lwm2m.Discovered{{Path: lwm2m.NewPath(5, 0), Dimension: -1}},
			out:  `</lwm2m/5/0>`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := lwm2m.ParseDiscover([]byte(tc.payload), tc.root)
			require.NoError(t, err)
			require.Equal(t, tc.want, found)
			if tc.out == "" {
				tc.out = tc.payload
			}
			require.Equal(t, tc.out, string(lwm2m.AppendDiscover(nil, tc.root, found)))
		})
	}
	for _, payload := range []string{`</3/0/7>;dim=-1`, `</3/0>;pmin=x`, `</3/0>;st=-1`, `</0/0>;ssid=99999`, `</5>;ver=1`, `<`} {
		_, err := lwm2m.ParseDiscover([]byte(payload), "")
		requireMalformed(t, err, []byte(payload))
	}
}

func FuzzParseLinks(f *testing.F) {
	for _, name := range []string{"link_format.json", "captured.json"} {
		for _, v := range loadVectors(f, name) {
			if v.ContentFormat == lwm2m.FormatLink {
				f.Add(v.payload(f))
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		links, err := lwm2m.ParseLinks(payload)
		if err != nil {
			requireMalformed(t, err, payload)
			return
		}
		again, err := lwm2m.ParseLinks(lwm2m.AppendLinks(nil, links))
		require.NoError(t, err)
		require.Equal(t, links, again)

		if found, err := lwm2m.ParseDiscover(payload, ""); err == nil {
			_, err = lwm2m.ParseDiscover(lwm2m.AppendDiscover(nil, "", found), "")
			require.NoError(t, err)
		}
	})
}

// FuzzParseObjectList parses the encoding of each parsed list, and compares.
func FuzzParseObjectList(f *testing.F) {
	for _, s := range oddLists {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		list, err := lwm2m.ParseObjectList(payload)
		if err != nil {
			requireMalformed(t, err, payload)
			return
		}
		out := list.Append(nil)
		back, err := lwm2m.ParseObjectList(out)
		require.NoError(t, err, "%q", out)
		for i := range list.Objects { // the encoding omits version 1.0
			if list.Objects[i].Version == version(1, 0) {
				list.Objects[i].Version = lwm2m.Version{}
			}
		}
		require.Equal(t, list, back)
	})
}
