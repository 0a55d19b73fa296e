package device

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

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
