package fsm_test

import (
	"encoding"
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestNames: every value has a text of its own that can be read back, in any letter case; numbers
// without a name are kept; other words are refused.
func TestNames(t *testing.T) {
	texts(t, []string{"idle", "downloading", "downloaded", "updating", "4", "-1"}, fsm.State(0), 1, 2, 3, 4, -1)
	texts(t, []string{
		"default", "success", "no_storage", "out_of_mem", "connection_lost", "integrity_failed", "unsup_fw", "invalid_uri",
		"update_failed", "unsup_proto", "cancelled", "deferred", "conflicting_state", "dependency_error", "14", "255",
	}, fsm.Result(0), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255)
	texts(t, []string{"auto", "coap", "coaps", "http", "https", "coap+tcp", "coaps+tcp"}, fsm.ProtocolAuto, fsm.ProtocolCoAP,
		fsm.ProtocolCoAPS, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP, fsm.ProtocolCoAPSTCP)
	texts(t, []string{"auto", "push", "pull"}, fsm.DeliveryAuto, fsm.DeliveryPush, fsm.DeliveryPull)
	texts(t, []string{"pull", "push", "both", "3"}, fsm.PullOnly, fsm.PushOnly, fsm.PushAndPull, 3)
	texts(t, []string{"", "succeeded", "rolled_back", "failed", "cancelled", "timed_out"}, fsm.Outcomes...)
	texts(t, []string{"waiting", "preparing", "transferring", "transferred", "executing", "restarting", "verifying", "ended"}, fsm.Phases...)
}

func texts[T comparable, P interface {
	*T
	encoding.TextUnmarshaler
}](t *testing.T, want []string, values ...T) {
	t.Helper()
	for i, v := range values {
		text, err := any(v).(encoding.TextMarshaler).MarshalText()
		require.NoError(t, err)
		require.Equal(t, want[i], string(text))
		var back T
		require.NoError(t, P(&back).UnmarshalText(text))
		require.Equal(t, v, back)
	}
	var v T
	require.ErrorIs(t, P(&v).UnmarshalText([]byte("no such word")), fsm.ErrUnknownName)
}

// TestUnknownNamesAreNotWritten: a value that cannot be read back is not written either. Letter
// case is for texts; the machine compares values.
func TestUnknownNamesAreNotWritten(t *testing.T) {
	for _, v := range []encoding.TextMarshaler{
		fsm.DeliveryMode("x"), fsm.DeliveryMode("PUSH"), fsm.DeliveryMode("auto"),
		fsm.Protocol("ftp"), fsm.Protocol("CoAP"), fsm.Protocol("auto"),
		fsm.Phase(""), fsm.Phase("x"), fsm.Outcome("x"), fsm.Outcome("Failed"),
	} {
		_, err := v.MarshalText()
		require.ErrorIs(t, err, fsm.ErrUnknownName, "%T %q", v, v)
		_, err = json.Marshal(v)
		require.ErrorIs(t, err, fsm.ErrUnknownName, "%T %q", v, v)
	}
}

// TestNumbersAreKept: any number that a device sends for a resource can be read back.
func TestNumbersAreKept(t *testing.T) {
	for _, n := range []int{math.MinInt, -1, 255, math.MaxInt} {
		text := []string{strconv.Itoa(n)}
		texts(t, text, fsm.State(n))
		texts(t, text, fsm.Result(n))
		texts(t, text, fsm.DeliverySupport(n))
	}
}

func TestProtocolNumbers(t *testing.T) {
	for n, want := range []fsm.Protocol{"coap", "coaps", "http", "https", "coap+tcp", "coaps+tcp"} {
		p, ok := fsm.ProtocolNumber(int64(n))
		require.True(t, ok)
		require.Equal(t, want, p)
		require.Equal(t, n, p.Number())
	}
	for _, n := range []int64{-1, 6, 1 << 40} {
		_, ok := fsm.ProtocolNumber(n)
		require.False(t, ok)
	}
	require.Equal(t, -1, fsm.ProtocolAuto.Number())
	var p fsm.Protocol
	require.NoError(t, p.UnmarshalText([]byte("HTTPS")))
	require.Equal(t, fsm.ProtocolHTTPS, p)
}

// TestPlanDefaults: the zero plan has limits for everything but waiting.
func TestPlanDefaults(t *testing.T) {
	u := fsm.NewUpdate(fsm.Plan{Target: newVersion}, epoch)
	require.Equal(t, fsm.DefaultAttempts, u.Plan.Attempts)
	require.Equal(t, epoch.Add(24*time.Hour), u.Deadline)
	require.Equal(t, time.Minute, u.Plan.Limits.Settle)
	require.Equal(t, fsm.Limits{
		Preparing: 30 * time.Minute, Transferring: 2 * time.Hour, Transferred: 30 * time.Minute, Executing: 15 * time.Minute,
		Restarting: time.Hour, Verifying: 15 * time.Minute, Settle: time.Minute, Retry: 15 * time.Second, Poll: 5 * time.Second,
		Defer: time.Hour,
	}, u.Plan.Limits)
}

// TestUpdateIsSmall: an update is small enough to keep thousands in memory and on disk.
func TestUpdateIsSmall(t *testing.T) {
	h := executed(fsm.Plan{Target: newVersion}, oldVersion)
	data, err := h.update.Stored()
	require.NoError(t, err)
	require.Less(t, len(data), 400)
}
