package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// forward publishes the events of a manager until ctx ends, each at least once and in order, also
// across restarts: file holds the position, which is the Seq of the last event that the bus has
// taken.
func forward(ctx context.Context, mgr *firmware.Manager, file string, publish func(context.Context, firmware.Event) error) error {
	var after uint64
	switch text, err := os.ReadFile(file); {
	case err == nil:
		if after, err = strconv.ParseUint(string(text), 10, 64); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for event, err := range mgr.Events(ctx, after) {
		if err != nil {
			return err
		}
		if event.Name == firmware.EventProgress {
			continue // not in the journal: it has no position
		}
		if err := publish(ctx, event); err != nil {
			return err // the program calls forward again after a pause
		}
		// A program that is killed here publishes the event once more; consumers drop a Seq that
		// they know.
		next := file + ".next"
		if err := os.WriteFile(next, strconv.AppendUint(nil, event.Seq, 10), 0o600); err != nil {
			return err
		}
		if err := os.Rename(next, file); err != nil {
			return err
		}
	}
	return nil
}

// A program forwards events to its message bus. The first time the bus fails after one event; the
// second time forward goes on where it was.
func ExampleManager_Events() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "events")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	db := memory.New()
	images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	if err != nil {
		panic(err)
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	if err != nil {
		panic(err)
	}
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	if err != nil {
		panic(err)
	}
	img, err := images.Add(ctx, firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("package"))
	if err != nil {
		panic(err)
	}
	update, err := mgr.Start(ctx, firmware.Request{
		Endpoint: "sensor-1", Image: img.ID, Labels: map[string]string{"site": "north"},
	})
	if err != nil {
		panic(err)
	}
	if _, err := mgr.Cancel(ctx, update.ID); err != nil {
		panic(err)
	}

	position := filepath.Join(dir, "position")
	taken := 0
	fmt.Println(forward(ctx, mgr, position, func(_ context.Context, e firmware.Event) error {
		if taken++; taken > 1 {
			return errors.New("the bus is away")
		}
		fmt.Println(e.Seq, e.Endpoint, e.Name)
		return nil
	}))
	fmt.Println(forward(ctx, mgr, position, func(_ context.Context, e firmware.Event) error {
		fmt.Println(e.Seq, e.Endpoint, e.Name)
		cancel() // enough for an example
		return nil
	}))
	// Output:
	// 1 sensor-1 created
	// the bus is away
	// 2 sensor-1 cancelled
	// <nil>
}
