package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// One commit holds what belongs together. The store itself refuses what must not happen twice.
func ExampleStore() {
	ctx := context.Background()
	db := memory.New()
	defer db.Close()

	plan := fsm.Plan{Target: "1.1.0"}
	first := store.Update{ID: "01", Endpoint: "urn:imei:490154203237518", Image: "i", Machine: fsm.NewUpdate(plan, time.Now())}
	_, err := db.Commit(ctx,
		store.CreateImage{Image: store.Image{ID: "i", Name: "sensor", Version: "1.1.0"}},
		store.CreateUpdate{Update: first},
		store.AppendEvents{Events: []store.Event{{Update: first.ID, Endpoint: first.Endpoint, Name: "created"}}},
	)
	fmt.Println(err)

	second := first
	second.ID = "02"
	_, err = db.Commit(ctx, store.CreateUpdate{Update: second})
	if active, ok := errors.AsType[*store.UpdateError](err); ok {
		fmt.Println("in the way:", active.ID)
	}

	u, err := db.Update(ctx, "01")
	fmt.Println(u.Revision, err)
	_, err = db.Commit(ctx, store.ReplaceUpdate{Update: u})
	fmt.Println(err)
	_, err = db.Commit(ctx, store.ReplaceUpdate{Update: u})
	fmt.Println(err)
	// Output:
	// <nil>
	// in the way: 01
	// 1 <nil>
	// <nil>
	// store: another commit has changed the record
}
