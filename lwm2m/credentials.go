package lwm2m

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Credentials knows the keys of devices and which endpoint each belongs to. Methods are called from several goroutines,
// also while handshakes are going on, and should be quick.
type Credentials interface {
	// PSK returns the pre-shared key for an identity. The key is not changed by the caller.
	PSK(identity []byte) (key []byte, ok bool)
	// Endpoint returns the endpoint client name that an identity may register: a PSK identity, or a name of a certificate
	// that was verified against [ServerConfig.ClientCAs]: its common name, DNS names and URIs are tried in this order.
	// ok is false for an identity that may register none. A certificate that shows the endpoint itself is usual, and then
	// Endpoint returns identity.
	Endpoint(identity string) (endpoint string, ok bool)
}

const (
	pskCheckEvery = time.Second
	maxPSKFile    = 256 << 20
	maxPSKLine    = 4096
)

// PSKFile returns the credentials in a text file, which is read when first needed, and again after it changed; while it
// cannot be read, or is wrong, what it said before holds. Each line has an identity, a key in hexadecimal digits (1 to 64
// bytes) and an endpoint, separated by spaces or tabs; without an endpoint it equals the identity. Empty lines and lines that
// begin with # are skipped. The endpoint of an identity that is not in the file is the identity itself if it is the
// name of a verified certificate, which is to say that any such certificate may register its own name.
//
// Use [PSKFileCredentials.Err] to report what is wrong with the file.
func PSKFile(path string) *PSKFileCredentials { return &PSKFileCredentials{path: path} }

// PSKFileCredentials are [Credentials] that are read from a file; see [PSKFile].
type PSKFileCredentials struct {
	path string

	mu      sync.Mutex
	keys    map[string]pskEntry
	err     error
	checked time.Time
	changed time.Time // of the file
	size    int64
}

type pskEntry struct {
	key      []byte
	endpoint string
}

// PSK implements [Credentials].
func (c *PSKFileCredentials) PSK(identity []byte) ([]byte, bool) {
	e, ok := c.entry(string(identity))
	return e.key, ok
}

// Endpoint implements [Credentials].
func (c *PSKFileCredentials) Endpoint(identity string) (string, bool) {
	if e, ok := c.entry(identity); ok {
		return e.endpoint, true
	}
	return identity, true
}

// Err returns what is wrong with the file as it is now, nil if nothing is.
func (c *PSKFileCredentials) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked = time.Time{}
	c.refresh()
	return c.err
}

func (c *PSKFileCredentials) entry(identity string) (pskEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	e, ok := c.keys[identity]
	return e, ok
}

// refresh reads the file if it changed since it was last looked at, which is once a second at most. c.mu is held.
func (c *PSKFileCredentials) refresh() {
	now := time.Now()
	if !c.checked.IsZero() && now.Sub(c.checked) < pskCheckEvery {
		return
	}
	c.checked = now
	info, err := os.Stat(c.path)
	if err != nil {
		c.err = err
		return
	}
	if c.keys != nil && c.err == nil && info.ModTime().Equal(c.changed) && info.Size() == c.size {
		return
	}
	if info.Size() > maxPSKFile {
		c.err = fmt.Errorf("lwm2m: %s is bigger than %d bytes", c.path, maxPSKFile)
		return
	}
	text, err := os.ReadFile(c.path)
	if err != nil {
		c.err = err
		return
	}
	keys, err := parsePSKs(text)
	if err != nil {
		c.err = fmt.Errorf("lwm2m: %s: %w", c.path, err)
		return
	}
	c.keys, c.err, c.changed, c.size = keys, nil, info.ModTime(), info.Size()
}

// parsePSKs reads the lines of a file of keys. Errors name lines, never what is in them.
func parsePSKs(text []byte) (map[string]pskEntry, error) {
	keys := make(map[string]pskEntry)
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, maxPSKLine)
	n := 0
	for lines.Scan() {
		n++
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("line %d has %d columns, not identity, key and perhaps endpoint", n, len(fields))
		}
		key, err := hex.DecodeString(fields[1])
		if err != nil || len(key) == 0 || len(key) > 64 {
			return nil, fmt.Errorf("line %d: the key is not 1 to 64 bytes in hexadecimal digits", n)
		}
		if _, ok := keys[fields[0]]; ok {
			return nil, fmt.Errorf("line %d: this identity was there before", n)
		}
		e := pskEntry{key: key, endpoint: fields[len(fields)-1]}
		if len(fields) == 2 {
			e.endpoint = fields[0]
		}
		keys[fields[0]] = e
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return keys, nil
}
