package lwm2m_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// oddLists are lists of objects as devices in the field write them. All mean the same.
var oddLists = []string{
	`</>;rt="oma.lwm2m";ct="60 110 112",</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;rt="oma.lwm2m";ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;rt=oma.lwm2m;ct=60 110 112 ,</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;rt="oma.lwm2m";ct=60,110,112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;rt="oma.lwm2m";ct="60,110, 112",</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;rt="oma.lwm2m";ct='60 110 112',</1/0>,</3/0>,</5>;ver='1.1',</5/0>`,
	`</>;rt="oma.lwm2m";ct=60;ct=110;ct="112 60",</1/0>,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;ct=60 110 112;rt="OMA.LwM2M",</1/0>,</3/0>,</5>;ver="1.1",</5/0>`,
	`</>;ct="60 110 112 x 99999",</1/0>,</3/0>,</5>;ver= "1.1",</5/0>`,
	"</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>\x00",
	"</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>\r\n\x00\x00",
	"</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>,\x00",
	"</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>,",
	"</>;ct=60 110 112, </1/0>, </3/0> ,\t</5>; ver = 1.1 ;, </5/0> , ",
	"</>;ct=60 110 112,\r\n</1/0>,\r\n</3/0>,\r\n</5>;ver=1.1,\r\n</5/0>\r\n",
	"</>;ct=60 110 112\n</1/0>\n</3/0>\n</5>;ver=1.1\n</5/0>\n",
	`</>;ct=60 110 112</1/0></3/0></5>;ver=1.1</5/0>`,
	`,</>;ct=60 110 112,,</1/0>,</3/0>,</5>;ver=1.1,,</5/0>,,`,
	`</>;ct=60 110 112,</1/0/>,</3/0/>,</5/>;ver=1.1,</5/0>`,
	`</>;ct=60 110 112,<1/0>,<3/0>,<5>;ver=1.1,<5/0>`,
	`</>;ct=60 110 112,< /1/0 >,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1.0,</5/0>`,
	`</>;ct=60 110 112,</1/0>,</3/0>,</5/0>;ver=1.1`,
	`</>;ct=60 110 112,</1>;ver=1,</1/0>,</3>;ver=1.0,</3/0>,</5>;ver=1.1;obs;title="a, b;c",</5/0>;ver=1.1`,
	`</>;ct=60 110 112,</1>;ver=,</1/0>,</3>;ver=x,</3/0>,</5>;ver=1.1,</5/0>`,
	`</>;ct=60 110 112,</1/0/1>,</3/0/11/0>,</3/0/0>,</5>;ver=1.1,</5/0/3>,</5/0/5>`,
	`</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>,</well-known/core>,<coap://h/1>;rel=x,</a>;sz=`,
	"\ufeff</>;ct=60 110 112,</1/0>,</3/0>,</5>;ver=1.1,</5/0>",
}

func TestOddLists(t *testing.T) {
	for _, s := range oddLists {
		list, err := lwm2m.ParseObjectList([]byte(s))
		require.NoError(t, err, "%q", s)
		for i := range list.Objects {
			if list.Objects[i].Version == version(1, 0) {
				list.Objects[i].Version = lwm2m.Version{} // the same
			}
		}
		require.Equal(t, lwm2m.ObjectList{
			Formats: []lwm2m.ContentFormat{lwm2m.FormatCBOR, lwm2m.FormatSenMLJSON, lwm2m.FormatSenMLCBOR},
			Objects: []lwm2m.ListedObject{
				{ID: 1, Instances: []uint16{0}}, {ID: 3, Instances: []uint16{0}}, {ID: 5, Version: version(1, 1), Instances: []uint16{0}},
			},
		}, list, "%q", s)
	}
}

// TestOddRoots parses an alternate path in several forms.
func TestOddRoots(t *testing.T) {
	for _, s := range []string{
		`</lwm2m>;rt="oma.lwm2m",</lwm2m/3/0>`, `<lwm2m>;rt=oma.lwm2m,<lwm2m/3/0>`, `</lwm2m/>;rt="x oma.lwm2m", </lwm2m/3/0/0>`,
	} {
		list, err := lwm2m.ParseObjectList([]byte(s))
		require.NoError(t, err, s)
		require.Equal(t, lwm2m.ObjectList{Root: "/lwm2m", Objects: []lwm2m.ListedObject{{ID: 3, Instances: []uint16{0}}}}, list, s)
	}
}

// TestOddListsAreFast parses lists that could be slow.
func TestOddListsAreFast(t *testing.T) {
	for _, unit := range []string{"</1>", "</1>,", "</1>;ct=1 1 1 1 1", "</1>;;;;", ",", " ", "</1>;ct=1,1,1", "<", "1 "} {
		s := strings.Repeat(unit, 60_000/len(unit))
		_, _ = lwm2m.ParseObjectList([]byte("</>;ct=1" + s)) // it ends
	}
	_, err := lwm2m.ParseObjectList([]byte(fmt.Sprintf("</>;ct=%s", strings.Repeat("1 ", 30_000))))
	require.NoError(t, err)
}
