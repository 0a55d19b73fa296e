package device

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/udp/coder"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// coapServer serves downloads by CoAP on loopback and returns the prefix of their URIs.
func coapServer(t *testing.T) (*lwm2m.Server, string) {
	t.Helper()
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- server.ServePacket(t.Context(), conn) }()
	t.Cleanup(func() { <-ended })
	return server, "coap://" + conn.LocalAddr().String()
}

// gatedBody is a body of which only a part can be read until the gate opens. It records the offsets
// of its reads.
type gatedBody struct {
	*bytes.Reader
	limit int64
	gate  chan struct{}

	mu    sync.Mutex
	first int64 // lowest offset since reset
}

func (b *gatedBody) ReadAt(p []byte, at int64) (int, error) {
	if at >= b.limit {
		<-b.gate
	}
	b.mu.Lock()
	b.first = min(b.first, at)
	b.mu.Unlock()
	return b.Reader.ReadAt(p, at)
}

func (b *gatedBody) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.first = 1 << 62
}

// TestResumeCoAPAfterRestart stops the device during a download: it resumes with the first block
// that it lacks.
func TestResumeCoAPAfterRestart(t *testing.T) {
	server, base := coapServer(t)
	image := testImage("2.0", 60000)
	body := &gatedBody{Reader: newReader(image), limit: 40 << 10, gate: make(chan struct{})}
	server.Handle("/fw", &lwm2m.Download{Body: body, Size: int64(len(image)), ETag: []byte("12345678")})

	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String(base+"/fw")))
	require.Eventually(t, func() bool { return r.now().Offset >= 32<<10 }, 10*time.Second, time.Millisecond)
	require.Equal(t, "3132333435363738", r.now().ETag)
	r.stop()
	body.forget()
	close(body.gate)
	require.NoError(t, r.start())
	require.Equal(t, "2.0", r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
	body.mu.Lock()
	defer body.mu.Unlock()
	require.GreaterOrEqual(t, body.first, int64(32<<10), "it was fetched again")
}

func TestDownloadCoAPFaults(t *testing.T) {
	server, base := coapServer(t)
	image := testImage("2.0", 5000)
	server.Handle("/fw", &lwm2m.Download{Body: newReader(image), Size: int64(len(image))})
	server.HandleFunc("/busy", func(ctx context.Context, d lwm2m.DownloadRequest) (*lwm2m.Download, error) {
		return nil, lwm2m.ErrInternal
	})
	tests := map[string]struct {
		path   string
		size   int64
		result fsm.Result
	}{
		"not there":    {"/none", 0, fsm.ResultInvalidURI},
		"too big":      {"/fw", 4999, fsm.ResultNoStorage},
		"server fails": {"/busy", 0, fsm.ResultConnectionLost},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.config.MaxSize = tc.size
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String(base+tc.path)))
			r.wait(fsm.Idle, tc.result)
		})
	}
}

// TestDownloadCoAPEndsEarly marks a block in the middle of the package as the last one. The size is
// announced only in the first block, and no try accepts the part as the package.
func TestDownloadCoAPEndsEarly(t *testing.T) {
	image := testImage("2.0", 5000)
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	ended := make(chan struct{})
	var middle atomic.Int32
	go func() {
		defer close(ended)
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			asked := message.Message{Options: make(message.Options, 0, 16)}
			if _, err := coder.DefaultCoder.Decode(buf[:n], &asked); err != nil {
				continue
			}
			v, _ := asked.Options.GetUint32(message.Block2)
			reply := message.Message{Type: message.Acknowledgement, Code: codes.Content, MessageID: asked.MessageID, Token: asked.Token}
			reply.Options = message.Options{{ID: message.ETag, Value: []byte("tag")}, {ID: message.Block2, Value: []byte{byte(v) | 8}}}
			switch num := v >> 4; {
			case num == 0:
				reply.Options = append(reply.Options, message.Option{ID: message.Size2, Value: []byte{5000 >> 8, 5000 & 255}})
			case num >= 2:
				middle.Add(1)
				reply.Options[1].Value = []byte{byte(v)} // the last one
			}
			reply.Payload = image[v>>4<<10:][:1024]
			out := make([]byte, 2048)
			if n, err = coder.DefaultCoder.Encode(reply, out); err == nil {
				_, _ = conn.WriteTo(out[:n], from)
			}
		}
	}()
	defer func() {
		conn.Close()
		<-ended
	}()
	r := newRig(t)
	require.NoError(t, r.start())
	require.NoError(t, r.write(resURI, lwm2m.String("coap://"+conn.LocalAddr().String()+"/fw")))
	r.wait(fsm.Idle, fsm.ResultConnectionLost)
	require.Greater(t, middle.Load(), int32(1), "it goes on where it was")
}

// TestCoAPEndsEarly downloads from a CoAP server that announces another size (Size2) than it sends.
func TestCoAPEndsEarly(t *testing.T) {
	image := string(testImage("2.0", 500))
	for name, tc := range map[string]struct {
		options string // after the ETag
		good    bool
	}{
		"a last block":           {"\xd1\x06\x06\x52\x03\xe8", false}, // Block2 0/0/1024, Size2 1000
		"less than is sent":      {"\xd1\x06\x06\x51\xc8", false},     // Size2 200
		"what is sent":           {"\xd1\x06\x06\x52\x01\xf4", true},  // Size2 500
		"what is sent, no block": {"\xd2\x0b\x01\xf4", true},
		"nothing":                {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			go func() {
				defer close(done)
				request := make([]byte, 2048)
				for {
					n, from, err := conn.ReadFrom(request)
					if err != nil {
						return
					}
					if n < 4 || request[1] != 1 {
						continue
					}
					token := int(request[0] & 15)
					answer := append([]byte{0x60 | byte(token), 0x45}, request[2:4+token]...)
					answer = append(answer, "\x41\xaa"+tc.options+"\xff"+image...)
					_, _ = conn.WriteTo(answer, from)
				}
			}()
			r := newRig(t)
			r.config.Attempts = 2
			require.NoError(t, r.start())
			require.NoError(t, r.write(resURI, lwm2m.String("coap://"+conn.LocalAddr().String()+"/fw")))
			if tc.good {
				require.Equal(t, "2.0", r.wait(fsm.Downloaded, fsm.ResultDefault).PkgVersion)
			} else {
				r.wait(fsm.Idle, fsm.ResultConnectionLost)
			}
			r.stop()
			require.NoError(t, conn.Close())
			<-done
		})
	}
}
