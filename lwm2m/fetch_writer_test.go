package lwm2m_test

import (
	"io"
	"net"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// writerFunc is an io.Writer made of a function.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestFetchWriterMiscounts: Fetch fails if a writer takes fewer bytes than it got, or says that it
// took more, so that no gap goes unnoticed.
func TestFetchWriterMiscounts(t *testing.T) {
	body := randomBytes(5 << 10)
	for name, write := range map[string]writerFunc{
		"less":            func(p []byte) (int, error) { return len(p) - 1, nil },
		"nothing":         func([]byte) (int, error) { return 0, nil },
		"more":            func(p []byte) (int, error) { return len(p) + 1, nil },
		"fewer than none": func([]byte) (int, error) { return -1, nil },
	} {
		t.Run(name, func(t *testing.T) {
			for _, config := range []lwm2m.FetchConfig{{}, {Offset: 2056, ETag: []byte("tag"), Size: 5 << 10}} {
				conn, err := net.ListenPacket("udp", "127.0.0.1:0")
				require.NoError(t, err)
				go serveBlocks(conn, func(num uint32) message.Message { return blockReply(body, num, num == 4, 5<<10) })
				result, err := lwm2m.Fetch(t.Context(), "coap://"+conn.LocalAddr().String()+"/x", write, config)
				require.ErrorIs(t, err, io.ErrShortWrite)
				require.GreaterOrEqual(t, result.Written, int64(0))
				require.LessOrEqual(t, result.Written, int64(1024))
				require.NoError(t, conn.Close())
			}
		})
	}
}
