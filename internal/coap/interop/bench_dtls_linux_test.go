package interop_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	pion "github.com/pion/dtls/v3"
	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/plgd-dev/go-coap/v3/mux"
	gonet "github.com/plgd-dev/go-coap/v3/net"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	gocoapdtls "github.com/plgd-dev/go-coap/v3/dtls"
	dtlsserver "github.com/plgd-dev/go-coap/v3/dtls/server"
	"github.com/plgd-dev/go-coap/v3/options"
	"github.com/plgd-dev/go-coap/v3/udp/client"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/testkit"
)

func init() {
	roles["otago-dtls"] = otagoDTLS
	roles["go-coap-dtls"] = goCoAPDTLS
	roles["load-dtls"] = loadDTLS
}

const benchIdentity, benchKey = "device", "0123456789abcdef"

// pionPSK returns pion's configuration for go-coap.
func pionPSK() *pion.Config {
	return &pion.Config{ //nolint:staticcheck // go-coap takes no other
		PSK:             func([]byte) ([]byte, error) { return []byte(benchKey), nil },
		PSKIdentityHint: []byte(benchIdentity),
		CipherSuites:    []pion.CipherSuiteID{pion.TLS_PSK_WITH_AES_128_CCM_8},
	}
}

func otagoDTLS() error {
	e := coap.New(coap.Config{Handler: benchHandler(nil), Bounds: coap.Bounds{IdentitySessions: 1 << 20}})
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() {
		_ = e.ServeDTLS(context.Background(), conn, dtls.Credentials{PSK: func([]byte) ([]byte, error) { return []byte(benchKey), nil }})
	}()
	return act(conn.LocalAddr().String(), func(words []string) (string, error) { return carryOut(words, nil) })
}

func goCoAPDTLS() error {
	router := mux.NewRouter()
	_ = router.Handle("/"+smallPath, mux.HandlerFunc(func(w mux.ResponseWriter, _ *mux.Message) {
		_ = w.SetResponse(codes.Content, message.TextPlain, io.ReadSeeker(bytes.NewReader([]byte(smallText))))
	}))
	l, err := gonet.NewDTLSListener("udp4", "127.0.0.1:0", pionPSK())
	if err != nil {
		return err
	}
	s := gocoapdtls.NewServer([]dtlsserver.Option{
		options.WithMux(router),
		options.WithInactivityMonitor(time.Hour, func(c *client.Conn) { _ = c.Close() }),
		options.WithErrors(func(error) {}),
	}...)
	go func() { _ = s.Serve(l) }()
	return act(l.Addr().String(), func(words []string) (string, error) { return carryOut(words, nil) })
}

// loadDTLS holds associations with servers: "dial ADDR N" makes N, each with one request; "small
// ADDR N" makes N requests over those with ADDR.
func loadDTLS() error {
	associations := make(map[netip.AddrPort][]*pion.Conn)
	return act("ready", func(words []string) (string, error) {
		to, err := netip.ParseAddrPort(words[1])
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(words[2])
		if err != nil {
			return "", err
		}
		if words[0] == "dial" {
			var mu sync.Mutex
			var group errgroup.Group
			group.SetLimit(8)
			for range n {
				group.Go(func() error {
					conn, err := dialPion(to)
					if err == nil {
						err = smallOver(conn, 1)
						mu.Lock()
						associations[to] = append(associations[to], conn)
						mu.Unlock()
					}
					return err
				})
			}
			return "", group.Wait()
		}
		conns := associations[to]
		return "", everybody(len(conns), func(i int) error { return smallOver(conns[i], n/len(conns)) })
	})
}

func dialPion(to netip.AddrPort) (*pion.Conn, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	c, err := pion.Client(conn, net.UDPAddrFromAddrPort(to), pionPSK()) //nolint:staticcheck // the same as go-coap's
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	return c, c.HandshakeContext(ctx)
}

// smallOver makes n small requests, 4 at a time.
func smallOver(conn *pion.Conn, n int) error {
	out, in := make([]byte, 0, 64), make([]byte, 2048)
	waiting := make(map[uint16]bool)
	mid, silent := uint16(time.Now().UnixNano()), 0
	for done := 0; done < n; {
		for len(waiting) < 4 && done+len(waiting) < n {
			mid++
			waiting[mid] = true
			out = getMessage(out[:0], mid, smallPath, -1)
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
		k, err := conn.Read(in)
		if err != nil {
			if silent++; silent == tries {
				return err
			}
			clear(waiting) // lost: send them again
			continue
		}
		if k < 4 {
			return errWire
		}
		if id := binary.BigEndian.Uint16(in[2:]); waiting[id] {
			if text, err := payloadOf(in[:k], id); err != nil || string(text) != smallText {
				return fmt.Errorf("%w: %x", errWire, in[:k])
			}
			delete(waiting, id)
			done++
			silent = 0
		}
	}
	return nil
}

// libcoapDTLS starts libcoap's server with OpenSSL.
func libcoapDTLS(b *testing.B) (*process, netip.AddrPort) {
	b.Helper()
	name := program(b, "coap-server-openssl", libcoapPackage)
	at := testkit.FreePorts(b, 2)
	p := startOn(b, measured, exec.Command(name, "-A", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-d", "1000", "-k", benchKey, "-h", "hint"))
	awaitCoAP(b, p, at)
	e, to := dial(b, at, coap.Config{})
	put(b, e, to, &coap.Request{Path: []string{smallPath}, Payload: []byte(smallText)})
	return p, netip.AddrPortFrom(at.Addr(), at.Port()+1)
}

// BenchmarkSmallRequestDTLS uses 32 clients with 4 requests in progress each, over DTLS with a
// pre-shared key and AES_128_CCM_8.
func BenchmarkSmallRequestDTLS(b *testing.B) {
	const requests, clients = 20_000, 32
	ours, theirs := startActor(b, measured, "otago-dtls"), startActor(b, measured, "go-coap-dtls")
	lib, libAt := libcoapDTLS(b)
	loader := startActor(b, loading, "load-dtls")
	for _, at := range []string{ours.ready, theirs.ready, libAt.String()} {
		loader.order("dial %s %d", at, clients)
	}
	c := &contest{b: b, ops: requests}
	for b.Loop() {
		c.round("go-coap", theirs.process, func() { loader.order("small %s %d", theirs.ready, requests) })
		c.round("otago", ours.process, func() { loader.order("small %s %d", ours.ready, requests) })
		c.round("libcoap", lib, func() { loader.order("small %v %d", libAt, requests) })
	}
	c.report()
}

// BenchmarkIdlePeersDTLS measures the memory of a server with 2000 idle DTLS associations.
func BenchmarkIdlePeersDTLS(b *testing.B) {
	const peers = 2000
	for b.Loop() {
		for _, name := range []string{"otago", "go-coap"} {
			a := startActor(b, measured, name+"-dtls")
			loader := startActor(b, loading, "load-dtls")
			loader.order("dial %s %d", a.ready, 20)
			goroutines, before := a.stats().goroutines, a.resident(b)
			loader.order("dial %s %d", a.ready, peers)
			b.ReportMetric(float64(a.resident(b)-before)/peers, name+"-B/peer")
			b.ReportMetric(float64(a.stats().goroutines-goroutines)/peers, name+"-goroutines/peer")
			require.NoError(b, loader.cmd.Process.Kill())
		}
	}
	b.ReportMetric(0, "ns/op")
}
