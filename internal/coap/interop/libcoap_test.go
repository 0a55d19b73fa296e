package interop_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

const libcoapPackage = "libcoap3-bin"

func serveLibcoap(t *testing.T) netip.AddrPort {
	cmd, at := libcoapServerCommand(t)
	awaitCoAP(t, start(t, cmd), at)
	return at
}

// libcoapServerCommand returns a command for libcoap's server on a free port, for UDP and TCP. The
// server creates up to 1000 resources.
func libcoapServerCommand(t testing.TB) (*exec.Cmd, netip.AddrPort) {
	t.Helper()
	name := program(t, "coap-server-notls", libcoapPackage)
	at := testkit.FreePorts(t, 1)
	return exec.Command(name, "-A", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-d", "1000"), at
}

// libcoapClients are builds of the same client.
var libcoapClients = []string{"coap-client-notls", "coap-client-openssl"}

func putLibcoap(t *testing.T, to netip.AddrPort, path string, body []byte, block int) {
	for _, client := range libcoapClients {
		libcoapPut(t, client, "coap", to, path, body, block)
	}
}

func libcoapPut(t *testing.T, client, scheme string, to netip.AddrPort, path string, body []byte, block int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(file, body, 0o600))
	args := []string{"-m", "put", "-t", "42"}
	if block != 0 {
		args = append(args, "-b", strconv.Itoa(block))
	}
	if len(body) > 0 {
		args = append(args, "-f", file)
	}
	run(t, exec.Command(program(t, client, libcoapPackage), append(args, uri(scheme, to, path))...))
}

func getLibcoap(t *testing.T, from netip.AddrPort, path string, block int) []byte {
	return libcoapGet(t, libcoapClients[0], "coap", from, path, block)
}

func libcoapGet(t *testing.T, client, scheme string, from netip.AddrPort, path string, block int) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "body")
	args := []string{"-o", file}
	if block != 0 {
		args = append(args, "-b", strconv.Itoa(block))
	}
	run(t, exec.Command(program(t, client, libcoapPackage), append(args, uri(scheme, from, path))...))
	body, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil // libcoap writes no file for an empty body
	}
	require.NoError(t, err)
	return body
}

func observeLibcoap(t *testing.T, at netip.AddrPort, path string, texts []string) {
	p := start(t, exec.Command(program(t, libcoapClients[0], libcoapPackage), "-s", "60", "-w", uri("coap", at, path)))
	sees := func() bool {
		rest := p.out.String()
		for _, text := range texts {
			_, after, ok := strings.Cut(rest, text)
			if !ok {
				return false
			}
			rest = after
		}
		return true
	}
	require.Eventually(t, sees, 30*time.Second, 5*time.Millisecond, "%v", texts)
}
