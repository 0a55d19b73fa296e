package interop_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"time"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	gonet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp"
	"github.com/plgd-dev/go-coap/v3/udp/client"
	"github.com/plgd-dev/go-coap/v3/udp/server"

	"github.com/otago-iot/otago/internal/coap"
)

func init() {
	roles["otago"] = otago
	roles["go-coap"] = goCoAP
}

// devices is the number of devices in a transfer.
const devices = 200

// benchHandler serves the small text and the image.
func benchHandler(image []byte) coap.Handler {
	text := &coap.Response{Code: coap.Content, Payload: []byte(smallText)}
	body := bytes.NewReader(image)
	return coap.HandlerFunc(func(_ context.Context, r *coap.IncomingRequest) *coap.Response {
		switch r.Path() {
		case "/" + smallPath:
			return text
		case "/" + imagePath:
			return &coap.Response{Code: coap.Content, Body: body, Size: int64(len(image)), ETag: []byte{1, 2, 3, 4}}
		}
		return &coap.Response{Code: coap.NotFound}
	})
}

// otago is our server, which can also push.
func otago() error {
	image := bodyOf(imageSize)
	e := coap.New(coap.Config{Handler: benchHandler(image)})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = e.ServePacket(context.Background(), conn) }()
	body := bytes.NewReader(image)
	return act(conn.LocalAddr().String(), func(words []string) (string, error) {
		return carryOut(words, func(to netip.AddrPort) error {
			resp, err := e.Do(context.Background(), coap.Peer{Transport: coap.UDP, Addr: to}, &coap.Request{
				Code: coap.PUT, Path: []string{"5", "0", "0"}, ContentFormat: coap.FormatOf(42), Body: body, Size: int64(len(image)),
			})
			if err == nil && resp.Code != coap.Changed {
				err = fmt.Errorf("push: %v", resp.Code)
			}
			return err
		})
	})
}

// goCoAP is the same server with go-coap.
func goCoAP() error {
	image := bodyOf(imageSize)
	router := mux.NewRouter()
	handle := func(path string, body func() io.ReadSeeker) {
		_ = router.Handle(path, mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
			_ = w.SetResponse(codes.Content, message.TextPlain, body())
		}))
	}
	handle("/"+smallPath, func() io.ReadSeeker { return bytes.NewReader([]byte(smallText)) })
	handle("/"+imagePath, func() io.ReadSeeker { return bytes.NewReader(image) })
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	l := gonet.NewUDPConn("udp4", socket) // go-coap needs a buffer as large as ours: it hangs for ever after a loss
	s := udp.NewServer(goCoAPServerOptions(router)...)
	go func() { _ = s.Serve(l) }()
	return act(l.LocalAddr().String(), func(words []string) (string, error) {
		return carryOut(words, func(to netip.AddrPort) error {
			conn, err := s.NewConn(net.UDPAddrFromAddrPort(to))
			if err != nil {
				return err
			}
			defer conn.Close()
			resp, err := conn.Put(context.Background(), "/5/0/0", message.AppOctets, bytes.NewReader(image))
			if err == nil && resp.Code() != codes.Changed {
				err = fmt.Errorf("push: %v", resp.Code())
			}
			return err
		})
	})
}

func goCoAPServerOptions(router *mux.Router) []server.Option {
	return []server.Option{
		options.WithMux(router),
		options.WithBlockwise(true, blockwise.SZX1024, 10*time.Minute),
		options.WithInactivityMonitor(time.Hour, func(c *client.Conn) { _ = c.Close() }),
		options.WithErrors(func(error) {}),
	}
}

// carryOut answers "stats" with the bytes allocated so far and the number of goroutines, and "push
// ADDR..." with its duration in nanoseconds.
func carryOut(words []string, push func(netip.AddrPort) error) (string, error) {
	switch words[0] {
	case "push":
		began := time.Now()
		err := everybody(len(words)-1, func(i int) error { return push(netip.MustParseAddrPort(words[i+1])) })
		return fmt.Sprint(int64(time.Since(began))), err
	default:
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return fmt.Sprint(m.TotalAlloc, runtime.NumGoroutine(), m.HeapAlloc, m.StackInuse), nil
	}
}
