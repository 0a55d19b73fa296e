package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessage(t *testing.T) {
	w := newMessage(confirmable, codePOST, 0x1234, []byte("token"))
	w.number(optionObserve, 0)
	w.segments(optionURIPath, "/rd/"+strings.Repeat("x", 300))
	w.number(optionContentFormat, 11543)
	w.bytes(optionURIQuery, "ep=a sensor with a long name")
	w.number(optionAccept, 112)
	w.number(optionBlock1, 0x12345)
	w.bytes(300, "elective")
	w.payload([]byte("payload"))
	m, err := parseMessage(w.b)
	require.NoError(t, err)
	require.Equal(t, message{
		kind: confirmable, code: codePOST, id: 0x1234, token: []byte("token"), path: "/rd/" + strings.Repeat("x", 300),
		observe: 0, format: 11543, accept: 112, block1: 0x12345, payload: []byte("payload"),
	}, m)

	for n := range w.b { // a truncated message is never read beyond its end
		_, _ = parseMessage(bytes.Clone(w.b[:n]))
	}
	w = newMessage(nonConfirmable, codeGET, 1, nil)
	w.bytes(5, "") // If-None-Match
	m, err = parseMessage(w.b)
	require.NoError(t, err)
	require.True(t, m.unknown)
	require.Equal(t, absent, m.observe)
}

func TestNoMessage(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "short": {0x40, 1, 0}, "version": {0x80, 1, 0, 0}, "token": {0x44, 1, 0, 0, 1}, "long token": {0x49, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
		"no payload": {0x40, 1, 0, 0, 0xff}, "option": {0x40, 1, 0, 0, 0xb4, 'a'}, "reserved": {0x40, 1, 0, 0, 0xf0},
		"extended": {0x40, 1, 0, 0, 0xd0}, "extended size": {0x40, 1, 0, 0, 0xbe, 1},
	} {
		_, err := parseMessage(b)
		require.ErrorIs(t, err, errMessage, name)
	}
}
