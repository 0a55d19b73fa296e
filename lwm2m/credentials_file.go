package lwm2m

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	pskCheckEvery = time.Second
	// pskSettle is how long a file must stay unchanged before its keys replace the earlier ones: a
	// program may still be writing it. That is likely if its last line has no end: then
	// pskSettleCut applies.
	pskSettle    = time.Second
	pskSettleCut = 5 * time.Second
	maxPSKFile   = 256 << 20
	maxPSKLine   = 4096
)

// PSKFile returns the credentials in a text file. The file is read when first needed, and again
// some seconds after it changed. While it cannot be read or is wrong, the earlier keys stay. Each
// line has an identity, a key in hexadecimal digits (1 to 64 bytes) and an endpoint, separated by
// spaces or tabs; without an endpoint the identity is the endpoint. Empty lines and lines that
// begin with # are skipped. A file with only such lines removes all keys; an empty file is wrong.
// Replace the file by a rename.
//
// The file holds keys only: any verified certificate may register its own name as endpoint, and no
// other.
//
// A server that serves with these credentials checks the file each second, ends the associations of
// keys that were removed or changed, and logs each error of the file once. To check the file
// beforehand, call [PSKFileCredentials.Err].
func PSKFile(path string) *PSKFileCredentials { return &PSKFileCredentials{path: path} }

// PSKFileCredentials are [Credentials] that are read from a file; see [PSKFile].
type PSKFileCredentials struct {
	path string

	mu       sync.Mutex
	keys     map[string]pskEntry // nil until the file could be read
	err      error
	checked  time.Time
	read     pskStamp  // the file that keys or err are from
	pending  pskStamp  // a changed file that is not read yet
	since    time.Time // when pending was first seen
	reported pskStamp  // the file that the watchers know of
	watchers map[*pskWatcher]struct{}
}

type pskEntry struct {
	key      []byte
	endpoint string
}

type pskWatcher struct {
	revoked func([]Identity)
	failed  func(error)
}

// pskStamp identifies a state of the file: its directory entry, or why that cannot be used.
type pskStamp struct {
	info os.FileInfo
	err  string
}

func (c *PSKFileCredentials) stamp() (pskStamp, error) {
	info, err := os.Stat(c.path)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("lwm2m: %s is not a file", c.path)
	case info.Size() > maxPSKFile:
		err = fmt.Errorf("lwm2m: %s is bigger than %d bytes", c.path, maxPSKFile)
	default:
		return pskStamp{info: info}, nil
	}
	return pskStamp{info: info, err: err.Error()}, err
}

func (s pskStamp) same(other pskStamp) bool {
	if s.info == nil || other.info == nil {
		return s.info == other.info && s.err == other.err && s.err != ""
	}
	return os.SameFile(s.info, other.info) && s.info.ModTime().Equal(other.info.ModTime()) &&
		s.info.Size() == other.info.Size() && s.err == other.err
}

// PSK implements [Credentials].
func (c *PSKFileCredentials) PSK(_ context.Context, identity string) ([]byte, error) {
	e, err := c.entry(identity)
	return e.key, err
}

// Endpoint implements [Credentials].
func (c *PSKFileCredentials) Endpoint(_ context.Context, id Identity) (string, error) {
	if id.Kind == IdentityCertificate {
		return id.Name, nil
	}
	e, err := c.entry(id.Name)
	return e.endpoint, err
}

func (c *PSKFileCredentials) entry(identity string) (pskEntry, error) {
	c.mu.Lock()
	watched := len(c.watchers) > 0
	c.mu.Unlock()
	if !watched {
		c.refresh(false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.keys[identity]; ok {
		return e, nil
	}
	if c.keys == nil {
		return pskEntry{}, c.err
	}
	return pskEntry{}, ErrUnknownIdentity
}

// Err reads the file at once if it has changed, and returns what is wrong with it, nil if nothing
// is.
func (c *PSKFileCredentials) Err() error {
	c.refresh(true)()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Watch implements [CredentialsWatcher].
func (c *PSKFileCredentials) Watch(revoked func([]Identity), failed func(error)) (stop func()) {
	w := &pskWatcher{revoked, failed}
	c.refresh(false)()
	c.mu.Lock()
	if c.watchers == nil {
		c.watchers = make(map[*pskWatcher]struct{})
	}
	c.watchers[w] = struct{}{}
	err := c.err
	c.mu.Unlock()
	if err != nil {
		failed(err)
	}
	ended, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(pskCheckEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				c.refresh(false)()
			case <-ended:
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
		close(ended)
		<-gone
	})
}

// refresh reads the file if it has changed and then stayed the same for pskSettle, or at once if
// now is true. Without now it checks the file at most once a second. The function that it returns
// notifies the watchers.
func (c *PSKFileCredentials) refresh(now bool) (notify func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now()
	if !now && !c.checked.IsZero() && at.Sub(c.checked) < pskCheckEvery {
		return func() {}
	}
	c.checked = at
	stamp, err := c.stamp()
	if stamp.same(c.read) {
		return func() {}
	}
	if !stamp.same(c.pending) {
		c.pending, c.since = stamp, at
	}
	settled := at.Sub(c.since)
	first := c.keys == nil && c.read == pskStamp{}
	if !now && !first && settled < pskSettle {
		return func() {}
	}
	var keys map[string]pskEntry
	if err == nil {
		var whole bool
		if keys, whole, err = c.load(); !whole && !now && !first && settled < pskSettleCut {
			return func() {}
		}
	}
	c.read = stamp
	if settled < pskSettle {
		c.read = pskStamp{} // read it once more: a change within the precision of the file's time would go unnoticed
	}
	return c.replace(keys, err, stamp)
}

// load reads the file. whole reports whether its last line has an end.
func (c *PSKFileCredentials) load() (keys map[string]pskEntry, whole bool, err error) {
	text, err := os.ReadFile(c.path)
	if err != nil {
		return nil, false, err
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, false, fmt.Errorf("lwm2m: %s is empty: a line that begins with # would remove all keys", c.path)
	}
	if keys, err = parsePSKs(text); err != nil {
		err = fmt.Errorf("lwm2m: %s: %w", c.path, err)
	}
	return keys, text[len(text)-1] == '\n', err
}

// replace installs the keys that were read, or records the error. The function that it returns
// notifies the watchers. c.mu is held.
func (c *PSKFileCredentials) replace(keys map[string]pskEntry, err error, stamp pskStamp) (notify func()) {
	old, oldErr := c.keys, c.err
	c.err = err
	news := err == nil && oldErr != nil || err != nil && (oldErr == nil || !stamp.same(c.reported))
	c.reported = stamp
	var gone []Identity
	if err == nil {
		c.keys = keys
		for name, e := range old {
			if now, ok := keys[name]; !ok || !bytes.Equal(now.key, e.key) || now.endpoint != e.endpoint {
				gone = append(gone, Identity{Kind: IdentityPSK, Name: name})
			}
		}
	}
	watchers := make([]*pskWatcher, 0, len(c.watchers))
	for w := range c.watchers {
		watchers = append(watchers, w)
	}
	return func() {
		for _, w := range watchers {
			if len(gone) > 0 {
				w.revoked(gone)
			}
			if news {
				w.failed(err)
			}
		}
	}
}

// errPSKText refuses a file with zero bytes, such as UTF-16.
var errPSKText = errors.New("it is not text")

// parsePSKs reads the lines of a file of keys. Errors name lines, never their contents.
func parsePSKs(text []byte) (map[string]pskEntry, error) {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil, errPSKText
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // some editors write a byte order mark
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
