package interop_test

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/testkit"
)

// aiocoapMissing returns why aiocoap cannot be used.
var aiocoapMissing = sync.OnceValue(func() error {
	return exec.Command("python3", "-c", "import aiocoap, aiocoap.resource").Run()
})

// aiocoap returns a command for the script in testdata.
func aiocoap(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if err := aiocoapMissing(); err != nil {
		absent(t, "aiocoap is not installed (pip install aiocoap): %v", err)
	}
	return exec.Command("python3", append([]string{filepath.Join("testdata", "aiocoap_peer.py")}, args...)...)
}

func serveAiocoap(t *testing.T) netip.AddrPort {
	at := testkit.FreePorts(t, 1)
	p := start(t, aiocoap(t, "serve", at.Addr().String(), strconv.Itoa(int(at.Port()))))
	awaitCoAP(t, p, at)
	return at
}

// szx returns the exponent of a block size, as text.
func szx(block int) string { return strconv.Itoa(int(exponent(block))) }

func putAiocoap(t *testing.T, to netip.AddrPort, path string, body []byte, block int) {
	file := filepath.Join(t.TempDir(), "body")
	require.NoError(t, os.WriteFile(file, body, 0o600))
	run(t, aiocoap(t, "put", uri("coap", to, path), szx(block), file))
}

func getAiocoap(t *testing.T, from netip.AddrPort, path string, block int) []byte {
	file := filepath.Join(t.TempDir(), "body")
	run(t, aiocoap(t, "get", uri("coap", from, path), szx(block), file))
	body, err := os.ReadFile(file)
	require.NoError(t, err)
	return body
}

func observeAiocoap(t *testing.T, at netip.AddrPort, path string, texts []string) {
	p := start(t, aiocoap(t, "observe", uri("coap", at, path)))
	sees := func() bool {
		rest := p.out.String()
		for _, text := range texts {
			_, after, ok := strings.Cut(rest, text+"\n")
			if !ok {
				return false
			}
			rest = after
		}
		return true
	}
	require.Eventually(t, sees, 30*time.Second, 5*time.Millisecond, "%v", texts)
}
