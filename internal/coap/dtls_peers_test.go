package coap_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
	"github.com/otago-iot/otago/internal/peers"
	"github.com/otago-iot/otago/internal/testkit"
)

// peer returns the path of a foreign program. A test without it is skipped; in CI it fails.
func peer(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed (Debian: libcoap3-bin)", name)
		}
		t.Skipf("%s is not installed (Debian: libcoap3-bin)", name)
	}
	return path
}

// peerOf returns the name of a libcoap program in the table of peers.
func peerOf(program string) string {
	_, library, _ := strings.Cut(strings.TrimPrefix(program, "coap-"), "-")
	return "libcoap with " + map[string]string{"openssl": "OpenSSL", "gnutls": "GnuTLS"}[library]
}

// files writes the certificates to files for other programs.
func certificateFiles(t *testing.T, c *testkit.Certificates) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write := func(name, kind string, der []byte) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	write("ca.pem", "CERTIFICATE", c.CA.Raw)
	for name, pair := range map[string]struct {
		der []byte
		key any
	}{"server": {c.Server.Certificate[0], c.Server.PrivateKey}, "device": {c.Device.Certificate[0], c.Device.PrivateKey}} {
		der, err := x509.MarshalPKCS8PrivateKey(pair.key)
		require.NoError(t, err)
		write(name+".pem", "CERTIFICATE", pair.der)
		write(name+".key", "PRIVATE KEY", der)
	}
	return dir
}

// TestLibcoapClient makes libcoap's clients get and put bodies over DTLS.
func TestLibcoapClient(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	dir := certificateFiles(t, certs)
	body := bodyOf(30_000)
	file := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(file, body, 0o600))
	secure := pskOf(testIdentity, testKey)
	secure.Certificate, secure.ClientCAs = &certs.Server, certs.Roots
	server := serveDTLS(t, coap.Config{Handler: whoami(body)}, secure)
	credentials := map[string][]string{
		"PSK":          {"-u", testIdentity, "-k", string(testKey)},
		"certificates": {"-c", filepath.Join(dir, "device.pem"), "-j", filepath.Join(dir, "device.key"), "-C", filepath.Join(dir, "ca.pem")},
	}
	for _, program := range []string{"coap-client-openssl", "coap-client-gnutls"} {
		for name, flags := range credentials {
			t.Run(program+" "+name, func(t *testing.T) {
				peers.Mark(t, peerOf(program), "client", "coaps", "block-wise PUT and GET, "+name)
				path := peer(t, program)
				run := func(args ...string) string {
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					out, err := exec.CommandContext(ctx, path, append(append([]string{"-B", "20"}, flags...), args...)...).CombinedOutput()
					require.NoError(t, err, "%s", out)
					return string(out)
				}
				uri := "coaps://" + server.addr.String()
				want := testIdentity
				if name != "PSK" {
					want = "certificate of " + testIdentity
				}
				require.Contains(t, run("-m", "get", uri+"/who"), want)
				got := filepath.Join(t.TempDir(), "got")
				run("-m", "get", "-o", got, uri+"/body")
				read, err := os.ReadFile(got)
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, read), "%d bytes", len(read))
				require.NotContains(t, run("-m", "put", "-f", file, uri+"/body"), "4.")
			})
		}
	}
}

// TestLibcoapServer gets and puts bodies on libcoap's servers over DTLS.
func TestLibcoapServer(t *testing.T) {
	certs := testkit.NewCertificates(t, testIdentity)
	dir := certificateFiles(t, certs)
	x509Client := dtls.Credentials{Certificate: &certs.Device, RootCAs: certs.Roots, ServerName: "server"}
	for _, program := range []string{"coap-server-openssl", "coap-server-gnutls"} {
		for _, test := range []struct {
			name   string
			flags  []string
			secure dtls.Credentials
		}{
			{"PSK", []string{"-k", string(testKey), "-h", "hint"}, pskClient()},
			{"certificates", []string{
				"-c", filepath.Join(dir, "server.pem"), "-j", filepath.Join(dir, "server.key"), "-C", filepath.Join(dir, "ca.pem"), "-n",
			}, x509Client},
		} {
			t.Run(program+" "+test.name, func(t *testing.T) {
				peers.Mark(t, peerOf(program), "server", "coaps", "block-wise PUT and GET, "+test.name)
				path := peer(t, program)
				// libcoap uses the next port for DTLS.
				addr := testkit.FreePorts(t, 2)
				ctx, cancel := context.WithCancel(t.Context())
				out := new(testkit.Log)
				cmd := exec.CommandContext(ctx, path, append(test.flags, "-A", "127.0.0.1", "-p", fmt.Sprint(addr.Port()), "-d", "10")...)
				cmd.Stdout, cmd.Stderr = out, out
				require.NoError(t, cmd.Start())
				defer func() {
					cancel()
					_ = cmd.Wait() // killed
				}()
				at := netip.AddrPortFrom(addr.Addr(), addr.Port()+1)
				var client *coap.Endpoint
				var to coap.Peer
				var err error
				require.Eventually(t, func() bool {
					client, to, err = dialDTLS(t, at, coap.Config{MaxBody: 1 << 20}, test.secure)
					return err == nil
				}, 20*time.Second, 50*time.Millisecond, "%v %v", err, out)
				body := bodyOf(20_000)
				resp, err := client.Do(ctx, to, &coap.Request{Code: coap.PUT, Path: []string{"x"}, Payload: body})
				require.NoError(t, err, "%v", out)
				require.Equal(t, coap.Created, resp.Code)
				resp, err = client.Do(ctx, to, &coap.Request{Code: coap.GET, Path: []string{"x"}})
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, resp.Payload), "%d bytes", len(resp.Payload))
			})
		}
	}
}

// goCoAPConfigs are pion's configurations for go-coap.
func goCoAPPSK(suite pion.CipherSuiteID, cid bool) *pion.Config {
	c := &pion.Config{ //nolint:staticcheck // go-coap takes no other
		PSK:             func([]byte) ([]byte, error) { return testKey, nil },
		PSKIdentityHint: []byte(testIdentity), CipherSuites: []pion.CipherSuiteID{suite},
	}
	if cid {
		c.ConnectionIDGenerator = pion.OnlySendCIDGenerator()
	}
	return c
}

// TestGoCoAPDTLSClient makes go-coap's client push and pull with every PSK suite, with and without
// Connection ID.
func TestGoCoAPDTLSClient(t *testing.T) {
	body := bodyOf(30_000)
	server := serveDTLS(t, coap.Config{Handler: whoami(body)}, pskOf(testIdentity, testKey))
	for _, suite := range []pion.CipherSuiteID{
		pion.TLS_PSK_WITH_AES_128_CCM_8, pion.TLS_PSK_WITH_AES_128_GCM_SHA256, pion.TLS_PSK_WITH_AES_128_CBC_SHA256,
	} {
		for _, cid := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v %v", suite, cid), func(t *testing.T) {
				peers.Mark(t, "go-coap", "client", "coaps", "block-wise PUT and GET, PSK"+map[bool]string{true: ", Connection ID"}[cid])
				client, err := gocoap.Dial(server.addr.String(), goCoAPPSK(suite, cid), periodicRunner(t), options.WithBlockwise(true, blockwise.SZX1024, time.Minute))
				require.NoError(t, err)
				defer client.Close()
				resp, err := client.Get(t.Context(), "/who")
				require.NoError(t, err)
				read, err := io.ReadAll(resp.Body())
				require.NoError(t, err)
				require.Equal(t, testIdentity, string(read))
				resp, err = client.Put(t.Context(), "/body", message.AppOctets, bytes.NewReader(body))
				require.NoError(t, err)
				require.Equal(t, codes.Changed, resp.Code())
				resp, err = client.Get(t.Context(), "/body")
				require.NoError(t, err)
				read, err = io.ReadAll(resp.Body())
				require.NoError(t, err)
				require.True(t, bytes.Equal(body, read), "%d bytes", len(read))
			})
		}
	}
}

// TestGoCoAPDTLSServer pushes to go-coap's server, and pulls from it.
func TestGoCoAPDTLSServer(t *testing.T) {
	for _, cid := range []bool{false, true} {
		t.Run(fmt.Sprintf("Connection ID %v", cid), func(t *testing.T) {
			peers.Mark(t, "go-coap", "server", "coaps", "block-wise PUT and GET, PSK"+map[bool]string{true: ", Connection ID"}[cid])
			body := bodyOf(30_000)
			got := make(chan []byte, 1)
			router := mux.NewRouter()
			require.NoError(t, router.Handle("/x", mux.HandlerFunc(func(w mux.ResponseWriter, r *mux.Message) {
				if r.Code() == codes.GET {
					_ = w.SetResponse(codes.Content, message.AppOctets, bytes.NewReader(body))
					return
				}
				pushed, _ := io.ReadAll(r.Body())
				got <- pushed
				_ = w.SetResponse(codes.Changed, message.TextPlain, nil)
			})))
			config := goCoAPPSK(pion.TLS_PSK_WITH_AES_128_CCM_8, false)
			if cid {
				config.ConnectionIDGenerator = pion.RandomCIDGenerator(4)
			}
			l, err := gonet.NewDTLSListener("udp", "127.0.0.1:0", config)
			require.NoError(t, err)
			s := gocoap.NewServer(periodicRunner(t), options.WithMux(router), options.WithBlockwise(true, blockwise.SZX1024, time.Minute))
			done := make(chan error, 1)
			go func() { done <- s.Serve(l) }()
			defer func() {
				s.Stop()
				<-done
				_ = l.Close()
			}()
			client, to, err := dialDTLS(t, netip.MustParseAddrPort(l.Addr().String()), coap.Config{}, pskClient())
			require.NoError(t, err)
			resp, err := client.Do(t.Context(), to, &coap.Request{Code: coap.PUT, Path: []string{"x"}, Payload: body})
			require.NoError(t, err)
			require.Equal(t, coap.Changed, resp.Code)
			require.True(t, bytes.Equal(body, <-got))
			var into bytes.Buffer
			_, err = client.Do(t.Context(), to, &coap.Request{Code: coap.GET, Path: []string{"x"}, Into: &into})
			require.NoError(t, err)
			require.True(t, bytes.Equal(body, into.Bytes()), "%d bytes", into.Len())
		})
	}
}

// TestLibcoapRefused checks the reported reasons when keys are wrong.
func TestLibcoapRefused(t *testing.T) {
	peers.Mark(t, peerOf("coap-client-openssl"), "client", "coaps", "wrong key and unknown identity refused")
	path := peer(t, "coap-client-openssl")
	server := serveDTLS(t, coap.Config{}, pskOf(testIdentity, testKey))
	for identity, want := range map[string]string{testIdentity: dtls.ErrWrongKey.Error(), "stranger": dtls.ErrUnknownIdentity.Error()} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		out, _ := exec.CommandContext(ctx, path, "-B", "3", "-u", identity, "-k", "wrong", "coaps://"+server.addr.String()+"/").CombinedOutput()
		cancel()
		require.Eventually(t, func() bool { return strings.Contains(server.logged.String(), want) }, 20*time.Second, 5*time.Millisecond, "%s %v", out, server.logged)
		require.Contains(t, server.logged.String(), "identity=psk:"+identity)
		require.NotContains(t, server.logged.String(), string(testKey))
	}
}
