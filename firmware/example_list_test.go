package firmware_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// Pages of at most two updates. A page may be short, even empty: then its last error is
// store.ErrShort, and the next page begins after the update that came with it.
func ExampleManager_List() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "images")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	mgr, err := managerWithUpdates(ctx, dir, "a", "b", "c")
	if err != nil {
		fmt.Println(err)
		return
	}

	q := store.UpdateQuery{Active: true, Oldest: true, Limit: 2}
	for more := true; more; {
		n := 0
		more = false
		for u, err := range mgr.List(ctx, q) {
			damaged := new(store.DamagedError)
			switch {
			case errors.Is(err, store.ErrShort):
				more = true
			case errors.As(err, &damaged): // the list goes on
				fmt.Println(err)
				n++
			case err != nil:
				fmt.Println(err)
				return
			default:
				fmt.Println(u.Endpoint, u.Phase())
				n++
			}
			q.After = u.ID
		}
		more = more || n == q.Limit
		fmt.Println("end of a page")
	}
	// Output:
	// a waiting
	// b waiting
	// end of a page
	// c waiting
	// end of a page
}

// managerWithUpdates returns a manager with an update for each endpoint.
func managerWithUpdates(ctx context.Context, dir string, endpoints ...string) (*firmware.Manager, error) {
	db := memory.New()
	images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	if err != nil {
		return nil, err
	}
	img, err := images.Add(ctx, firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("firmware"))
	if err != nil {
		return nil, err
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	if err != nil {
		return nil, err
	}
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	if err != nil {
		return nil, err
	}
	for _, endpoint := range endpoints {
		if _, err := mgr.Start(ctx, firmware.Request{Endpoint: endpoint, Image: img.ID}); err != nil {
			return nil, err
		}
	}
	return mgr, nil
}
