package firmware_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

// spans makes traces and metrics of hooks: a span for each action, and a counter by kind.
type spans struct {
	mu    sync.Mutex
	count map[string]int
}

type spanStart struct{}

func (s *spans) hooks() firmware.Hooks {
	return firmware.Hooks{
		ActionStart: func(ctx context.Context, _ firmware.Update, _ firmware.ActionKind) context.Context {
			return context.WithValue(ctx, spanStart{}, time.Now()) // a tracer returns the context of its span
		},
		ActionEnd: func(ctx context.Context, u firmware.Update, kind firmware.ActionKind, err error) {
			took := time.Since(ctx.Value(spanStart{}).(time.Time))
			_ = took // for a histogram; u has the endpoint and the labels for the span
			s.add(fmt.Sprintf("action %s, answered: %t", kind, err == nil))
		},
		Ended: func(_ context.Context, u firmware.Update) { s.add("ended: " + string(u.Outcome())) },
	}
}

func (s *spans) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[name]++
}

// Hooks count what a manager does with devices. The program waits for an update, and for the hooks
// by waiting for Run.
func ExampleHooks() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	dir, err := os.MkdirTemp("", "hooks")
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
	metrics := &spans{count: make(map[string]int)}
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{Hooks: metrics.hooks()})
	if err != nil {
		panic(err)
	}
	network := simnet.New(1)
	conn, err := network.Listen("192.0.2.1:5683")
	if err != nil {
		panic(err)
	}
	go srv.ServePacket(ctx, conn)
	ran := make(chan error, 1)
	go func() { ran <- mgr.Run(ctx) }()
	device := firmwaretest.NewDevice(lwm2m.ClientConfig{
		Endpoint: "sensor-1", Server: "coap://192.0.2.1:5683",
		Listen: func(context.Context) (net.PacketConn, error) { return network.Listen("192.0.2.2:0") },
	}, firmwaretest.Script{
		Version: "1.0.0", Delivery: firmware.PushOnly, Install: firmwaretest.Install{Version: "1.1.0"},
	})
	go device.Run(ctx)

	img, err := images.Add(ctx, firmware.Image{Name: "sensor", Version: "1.1.0"}, strings.NewReader("package"))
	if err != nil {
		panic(err)
	}
	update, err := mgr.Start(ctx, firmware.Request{Endpoint: "sensor-1", Image: img.ID})
	if err != nil {
		panic(err)
	}
	if update, err = mgr.Wait(ctx, update.ID); err != nil {
		panic(err)
	}
	cancel()
	if err := <-ran; err != nil {
		panic(err)
	}
	fmt.Println(update.Outcome())
	for _, name := range []string{"action push, answered: true", "action execute, answered: true", "ended: succeeded"} {
		fmt.Println(name, metrics.count[name])
	}
	// Output:
	// succeeded
	// action push, answered: true 1
	// action execute, answered: true 1
	// ended: succeeded 1
}
