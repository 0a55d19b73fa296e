package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxSecret limits the size of a secret's file, in bytes.
const maxSecret = 64 << 10

// ReadSecret returns the content of a file without surrounding white space. An empty content is an
// error.
func ReadSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("%s: longer than %d bytes", path, maxSecret)
	}
	if data = bytes.TrimSpace(data); len(data) == 0 {
		return nil, fmt.Errorf("%s: empty", path)
	}
	return data, nil
}
