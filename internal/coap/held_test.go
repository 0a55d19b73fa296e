package coap_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// uploader sends blocks of bodies, each to its own path.
type uploader struct {
	*raw
	mid  int32
	next map[string]uint32
}

// block sends the next block to a path, and returns the code of the answer, or Empty if there is
// none.
func (u *uploader) block(path string) codes.Code {
	u.mid++
	m := withBlock(request(con, codes.PUT, u.mid, path), message.Block1, coap.BlockFields{Num: u.next[path], More: true, SZX: 6})
	m.Payload = make([]byte, 1024)
	u.send(m)
	answer, ok := u.receiveWithin(time.Millisecond)
	if !ok {
		return codes.Empty
	}
	u.next[path]++
	return answer.Code
}

// TestUploadThatGivesWay begins one upload too many. An upload past its first block continues,
// unless few others can be dropped.
func TestUploadThatGivesWay(t *testing.T) {
	for _, test := range []struct{ begun, going, fresh, last string }{
		{"abcd", "xy", "", "a"},
		{"ab", "wxyz", "", "a"},
		{"a", "vwxyz", "", "v"},
		{"", "uvwxyz", "", "u"},
		{"", "xy", "abcd", "x"},
	} {
		t.Run(test.begun+"_"+test.going+"_"+test.fresh, func(t *testing.T) {
			// Six of the ten are for unverified peers.
			config := coap.Config{MaxBody: 1 << 20, Bounds: coap.Bounds{Uploads: 10, PeerUploads: 10}}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				u := &uploader{raw: r, next: map[string]uint32{}}
				for _, path := range test.going + test.begun + test.going {
					require.Equal(t, codes.Continue, u.block(string(path)))
					pass(time.Millisecond)
				}
				if test.fresh == "" {
					require.Equal(t, codes.Empty, u.block("new"), "there is no room, as none is idle")
				}
				pass(20 * time.Second)
				for _, path := range test.fresh {
					require.Equal(t, codes.Continue, u.block(string(path)))
				}
				require.Equal(t, codes.Continue, u.block("new"))
				synctest.Wait()
				for _, path := range test.begun + test.going + test.fresh {
					want := codes.Continue
					if string(path) == test.last {
						want = codes.RequestEntityIncomplete
					}
					require.Equal(t, want, u.block(string(path)), string(path))
				}
			})
		})
	}
}

// TestUploadsOutOfMemory checks that an idle upload's memory goes to a new one, whose block is
// retransmitted until then.
func TestUploadsOutOfMemory(t *testing.T) {
	// Unverified peers have six tenths, enough for two.
	config := coap.Config{Bounds: coap.Bounds{UploadBytes: 14_000}}
	inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
		u := &uploader{raw: r, next: map[string]uint32{}}
		require.Equal(t, codes.Continue, u.block("a"))
		require.Equal(t, codes.Continue, u.block("b"))
		require.Equal(t, codes.Empty, u.block("c"))
		pass(2 * time.Second)
		require.Equal(t, codes.Empty, u.block("c"))
		synctest.Wait()
		require.Equal(t, codes.Continue, u.block("c"))
		require.Equal(t, codes.Continue, u.block("b"))
		require.Equal(t, codes.RequestEntityIncomplete, u.block("a"))
		require.Equal(t, 2, coap.Holds(e).Uploads)
	})
}
