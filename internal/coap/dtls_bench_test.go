//go:build unix

package coap_test

import (
	"bytes"
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"
	gocoap "github.com/plgd-dev/go-coap/v3/dtls"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	gonet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/plgd-dev/go-coap/v3/net/blockwise"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/pkg/runner/periodic"

	"github.com/otago-iot/otago/internal/coap"
)

// BenchmarkDTLS compares our server with go-coap's: small requests with AES_128_CCM_8 from 64
// devices, a handshake with the first request, and blocks of a pull. The devices are the same and
// in the same process, so the ratios are lower bounds for those of the servers alone. Processor
// time says more than elapsed time if others use the machine too.
func BenchmarkDTLS(b *testing.B) {
	body := bodyOf(1 << 20)
	for _, server := range []struct {
		name  string
		start func(b *testing.B, ctx context.Context, body []byte) netip.AddrPort
	}{{"ours", startOurs}, {"go-coap", startGoCoAP}} {
		ctx, cancel := context.WithCancel(b.Context())
		addr := server.start(b, ctx, body)
		b.Run("request/"+server.name, func(b *testing.B) {
			const devices = 64
			var peers [devices]coap.Peer
			var clients [devices]*coap.Endpoint
			for i := range devices {
				clients[i], peers[i] = benchDial(b, addr)
				defer clients[i].Close()
			}
			defer reportCPU(b)()
			var next atomic.Int32
			b.SetParallelism(devices / 2)
			b.RunParallel(func(pb *testing.PB) {
				i := int(next.Add(1)) % devices
				for pb.Next() {
					resp, err := clients[i].Do(ctx, peers[i], &coap.Request{Code: coap.GET, Path: []string{"x"}})
					if err != nil || resp.Code != coap.Content {
						b.Error(resp, err)
						return
					}
				}
			})
		})
		b.Run("handshake/"+server.name, func(b *testing.B) {
			defer reportCPU(b)()
			for b.Loop() {
				client, peer := benchDial(b, addr)
				if _, err := client.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"x"}}); err != nil {
					b.Fatal(err)
				}
				client.Close()
			}
		})
		b.Run("pull/"+server.name, func(b *testing.B) {
			client, peer := benchDial(b, addr)
			defer client.Close()
			b.SetBytes(int64(len(body)))
			defer reportCPU(b)()
			for b.Loop() {
				var into bytes.Buffer
				if _, err := client.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"image"}, Into: &into}); err != nil {
					b.Fatal(err)
				}
			}
		})
		cancel()
	}
}

// reportCPU measures the processor time from its call to that of report.
func reportCPU(b *testing.B) (report func()) {
	used := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

func benchDial(b *testing.B, addr netip.AddrPort) (*coap.Endpoint, coap.Peer) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	client := coap.New(coap.Config{})
	peer, err := client.DialDTLS(b.Context(), conn, addr, pskClient())
	if err != nil {
		b.Fatal(err)
	}
	return client, peer
}

func startOurs(b *testing.B, ctx context.Context, body []byte) netip.AddrPort {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	e := coap.New(coap.Config{Bounds: coap.Bounds{IdentitySessions: 1000}, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
		if r.Path() == "/image" {
			return &coap.Response{Code: coap.Content, Body: bytes.NewReader(body), Size: int64(len(body)), ETag: []byte{1}}
		}
		return &coap.Response{Code: coap.Content, Payload: []byte("hello")}
	})})
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = e.ServeDTLS(ctx, conn, pskOf(testIdentity, testKey)) // nil
	}()
	b.Cleanup(func() { <-served; _ = e.Close() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func startGoCoAP(b *testing.B, ctx context.Context, body []byte) netip.AddrPort {
	router := mux.NewRouter()
	_ = router.Handle("/x", mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
		_ = w.SetResponse(codes.Content, message.TextPlain, bytes.NewReader([]byte("hello")))
	}))
	_ = router.Handle("/image", mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
		_ = w.SetResponse(codes.Content, message.AppOctets, bytes.NewReader(body))
	}))
	l, err := gonet.NewDTLSListener("udp", "127.0.0.1:0", goCoAPPSK(pion.TLS_PSK_WITH_AES_128_CCM_8, false))
	if err != nil {
		b.Fatal(err)
	}
	s := gocoap.NewServer(options.WithMux(router), options.WithBlockwise(true, blockwise.SZX1024, time.Minute),
		options.WithPeriodicRunner(periodic.New(ctx.Done(), 100*time.Millisecond)))
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l)
	}()
	b.Cleanup(func() {
		s.Stop()
		<-served
		_ = l.Close()
	})
	return netip.MustParseAddrPort(l.Addr().String())
}
