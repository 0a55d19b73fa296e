package leshan

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/otago-iot/otago/internal/disk"
)

// compactSize is the size in bytes of a journal below which it is not worth to be compacted.
const compactSize = 1 << 20

// maxLine is the longest line of a journal in bytes. A device with a full queue is shorter.
const maxLine = 8 << 20

// A journal is the file that keeps the devices of a bridge: a line for each change, with a checksum
// and the whole device; of several lines of a device the last counts.
type journal struct {
	path string

	// append, devices and compact are called with the lock of the bridge.
	file *os.File
	size int64 // of the file

	// written counts the bytes that were appended since the journal was opened. sync holds syncing,
	// and so does compact while it changes the file.
	written atomic.Int64
	syncing sync.Mutex
	synced  int64
}

// line is a line of a journal.
type line struct {
	Endpoint string `json:"ep"`
	// Device is nil if the device was removed.
	Device *device `json:"device,omitempty"`
}

// openJournal opens or makes a journal, and returns its devices. damaged counts the lines that
// could not be read; a line that was cut off at the end, as by a crash, is none of them.
func openJournal(path string) (j *journal, devices map[string]*device, damaged int, err error) {
	if err := (disk.Files{}).MkdirAll(filepath.Dir(path)); err != nil {
		return nil, nil, 0, err
	}
	devices = map[string]*device{}
	data, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, 0, err
	}
	if err == nil {
		damaged, err = readLines(data, devices)
		_ = data.Close() // only read
		if err != nil {
			return nil, nil, 0, err
		}
	}
	j = &journal{path: path}
	return j, devices, damaged, j.compact(devices)
}

// readLines reads the lines of a journal.
func readLines(r io.Reader, devices map[string]*device) (damaged int, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	bad := 0
	for lines.Scan() {
		var l line
		sum, text, found := bytes.Cut(lines.Bytes(), []byte(" "))
		want, err := strconv.ParseUint(string(sum), 16, 32)
		if !found || err != nil || uint32(want) != crc32.ChecksumIEEE(text) || json.Unmarshal(text, &l) != nil {
			bad++
			continue
		}
		damaged, bad = damaged+bad, 0
		devices[l.Endpoint] = l.Device
		if l.Device == nil {
			delete(devices, l.Endpoint)
		}
	}
	if err := lines.Err(); err != nil {
		return damaged, fmt.Errorf("leshan: state file: %w", err)
	}
	return damaged + max(0, bad-1), nil // the last line may have been cut off
}

// encodeLine returns a device as a line.
func encodeLine(endpoint string, d *device) []byte {
	text, err := json.Marshal(line{endpoint, d})
	if err != nil { // strings, numbers and JSON
		panic(err)
	}
	return fmt.Appendf(make([]byte, 0, len(text)+10), "%08x %s\n", crc32.ChecksumIEEE(text), text)
}

// append writes a line to the file. It is durable after sync, and survives the end of the process
// at once.
func (j *journal) append(text []byte) error {
	if j.file == nil {
		return errors.New("leshan: the state file is closed")
	}
	n, err := j.file.Write(text)
	j.size += int64(n)
	j.written.Add(int64(n))
	return err
}

// sync makes what was appended before durable. Several callers share one call of the system.
func (j *journal) sync() error {
	upTo := j.written.Load()
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.synced >= upTo {
		return nil
	}
	at := j.written.Load()
	if j.file == nil {
		return errors.New("leshan: the state file is closed")
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.synced = at
	return nil
}

// compact replaces the file by one with a line for each device, durably.
func (j *journal) compact(devices map[string]*device) error {
	j.syncing.Lock()
	defer j.syncing.Unlock()
	var data []byte
	for endpoint, d := range devices {
		data = append(data, encodeLine(endpoint, d)...)
	}
	if err := (disk.Files{}).Replace(j.path, data); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if j.file != nil {
		_ = j.file.Close() // replaced
	}
	j.file, j.size, j.synced = f, int64(len(data)), j.written.Load()
	return nil
}

// close makes everything durable and closes the file.
func (j *journal) close() error {
	err := j.sync()
	j.syncing.Lock()
	defer j.syncing.Unlock()
	if j.file == nil {
		return nil
	}
	err = errors.Join(err, j.file.Close())
	j.file = nil
	return err
}
