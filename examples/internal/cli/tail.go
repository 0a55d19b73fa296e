package cli

import (
	"bytes"
	"sync"
)

// A Tail keeps the last bytes of what a process writes, to show why it ended. The zero value is
// ready for use, by several goroutines.
type Tail struct {
	Size int // the bytes it keeps; 4096 by default

	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	size := t.Size
	if size <= 0 {
		size = 4096
	}
	t.buf = append(t.buf, p...)
	t.buf = t.buf[max(0, len(t.buf)-size):]
	return len(p), nil
}

// String returns what the process wrote last, without the blanks around it, or says that it wrote
// nothing.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := bytes.TrimSpace(t.buf)
	if len(text) == 0 {
		return "it wrote nothing"
	}
	return string(text)
}
