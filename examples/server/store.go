package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/bolt"
	"github.com/otago-iot/otago/store/memory"
)

// openStore opens the store of -store and -data. If create is false, the store must exist.
func openStore(name, data string, create bool) (store.Store, error) {
	if name == "" {
		name = "bolt:" + filepath.Join(data, "ota.db")
	}
	kind, place, found := strings.Cut(name, ":")
	switch {
	case kind == "memory" && found && place == "":
		return memory.New(), nil
	case kind == "postgres" || kind == "postgresql":
		return nil, cli.Usagef("-store postgres:// is not there yet: use bolt:FILE")
	case kind != "bolt" || place == "":
		return nil, cli.Usagef("-store %q is neither bolt:FILE nor memory:", name)
	}
	if create {
		if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(place); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database %s", place)
	}
	return bolt.Open(place, bolt.Config{})
}
