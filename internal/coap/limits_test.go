package coap

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOptionsAreBounded(t *testing.T) {
	var m wireMessage
	head := []byte{0x40, 1, 0, 1, 0x20} // an elective option 2, and more of the same
	require.NoError(t, m.parse(append(head, make([]byte, maxOptions-1)...)))
	require.Len(t, m.options, maxOptions)
	require.ErrorIs(t, m.parse(append(head, make([]byte, maxOptions)...)), errFormat)
}

func TestObserveNumberWraps(t *testing.T) {
	o := &Observer{seq: 1<<24 - 2}
	require.EqualValues(t, 1<<24-1, o.number())
	require.Zero(t, o.number())
}

func TestEchoExpires(t *testing.T) {
	k := newEchoKey(newRandom(nil, nil))
	here, there := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.1:2")
	const now = time.Hour
	v := k.value(here, now)
	require.True(t, k.valid(v, here, now))
	require.True(t, k.valid(v, here, now+echoLifetime-time.Second))
	require.False(t, k.valid(v, here, now+echoLifetime+time.Second))
	require.False(t, k.valid(v, here, now-time.Minute), "from the future")
	require.False(t, k.valid(v, there, now))
}
