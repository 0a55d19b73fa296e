package memory_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
	"github.com/otago-iot/otago/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(testing.TB) store.Store { return memory.New() })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(testing.TB) store.Store { return memory.New() })
}

func ExampleNew() {
	ctx := context.Background()
	db := memory.New()
	defer db.Close()

	_, err := db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "1", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	_, err = db.Commit(ctx, store.CreateImage{Image: store.Image{ID: "2", Name: "sensor", Version: "1.1.0"}})
	fmt.Println(err)
	for image, err := range db.Images(ctx, store.ImageQuery{Name: "sensor"}) {
		fmt.Println(image.ID, image.Version, err)
	}
	// Output:
	// <nil>
	// store: another image has this name and version
	// 1 1.1.0 <nil>
}
