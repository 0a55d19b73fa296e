package firmwaretest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// put is a block of 64 bytes of a push.
func put(mid uint16, num byte, more bool) *message {
	value := num<<4 | 2
	if more {
		value |= 8
	}
	return &message{
		code: 3, mid: mid, token: []byte("push"), payload: make([]byte, 64),
		options: []option{
			{optionURIPath, []byte("5")}, {optionURIPath, []byte("0")}, {optionURIPath, []byte("0")},
			{optionContentFormat, []byte{42}}, {optionBlock1, []byte{value}},
		},
	}
}

func TestPushLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pushLock{}
		takes := func(m *message) {
			t.Helper()
			answer, pass := l.received(m)
			require.True(t, pass)
			require.Nil(t, answer)
		}
		refuses := func(m *message) {
			t.Helper()
			answer, pass := l.received(m)
			require.False(t, pass)
			require.Equal(t, &message{kind: kindACK, code: codeUnavailable, mid: m.mid, token: m.token}, answer)
		}
		read := &message{code: 1, mid: 99, token: []byte("read")}
		answer := &message{kind: kindACK, code: 2<<5 | 31, token: []byte("push")}
		update := &message{code: codePOST, token: []byte("update")}
		notification := &message{kind: 1, code: codeContent, token: []byte("read")}

		takes(read)
		takes(put(1, 0, true))
		refuses(put(1, 0, true))
		refuses(put(2, 0, true))
		refuses(put(2, 2, true))
		refuses(read)
		require.False(t, l.sent(update))
		require.False(t, l.sent(notification))
		require.True(t, l.sent(answer))
		<-time.After(299 * time.Second)
		takes(put(3, 1, true)) // the next block comes instead of a repetition
		<-time.After(299 * time.Second)
		refuses(read)
		<-time.After(time.Second)
		takes(read)
		require.True(t, l.sent(update))

		takes(put(4, 0, true))
		takes(put(5, 1, false))
		takes(read)
		refuses(put(5, 1, false))
		refuses(read)
		require.False(t, l.sent(update))
		<-time.After(2 * time.Second)
		takes(read)
		require.True(t, l.sent(update))
	})
}

func TestMessage(t *testing.T) {
	long := make([]byte, 300)
	m := put(0xabcd, 7, true)
	m.options = append(m.options, option{60, nil}, option{292, long[:13]}, option{2048, long[:269]}, option{2048, long})
	got, ok := parseMessage(m.append(nil))
	require.True(t, ok)
	require.Equal(t, len(m.append(nil)), got.size)
	require.Equal(t, m.append(nil), got.append(nil))
	require.Equal(t, "/5/0/0", got.path())
	b, ok := got.block1()
	require.True(t, ok)
	require.Equal(t, block{offset: 448, more: true}, b)

	whole := m.append(nil)
	for cut := range whole {
		_, _ = parseMessage(whole[:cut]) // it must not panic
	}
	for _, bad := range [][]byte{nil, {0x40, 1, 0}, {0x80, 1, 0, 0}, {0x49, 1, 0, 0}, {0x40, 1, 0, 0, 0xff}, {0x40, 1, 0, 0, 0xf1, 0}, {0x40, 1, 0, 0, 0xb5}} {
		_, ok := parseMessage(bad)
		require.False(t, ok, "%x", bad)
	}
}
