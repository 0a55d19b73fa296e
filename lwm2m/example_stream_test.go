package lwm2m_test

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/otago-iot/otago/lwm2m"
)

// calibration is an object whose resource 0 is a table that is too large for memory. It goes into
// flash page by page while the server writes it.
type calibration struct{ *lwm2m.ValueObject }

// OpenWrite is called when the server begins to write an opaque value.
func (calibration) OpenWrite(_ context.Context, path lwm2m.Path, size int64) (lwm2m.Sink, error) {
	if path != lwm2m.NewPath(33000, 0, 0) {
		return nil, nil // the value is small: Write gets it
	}
	if size > 1<<20 {
		return nil, lwm2m.ErrTooLarge // answered with 4.13
	}
	fmt.Println("erase", size, "bytes")
	return &flash{}, nil
}

// flash is the sink of one value.
type flash struct {
	page  []byte // the page that is not full yet
	pages int
}

const pageSize = 4096

func (f *flash) Write(p []byte) (int, error) {
	f.page = append(f.page, p...)
	for len(f.page) >= pageSize {
		f.program(f.page[:pageSize])
		f.page = f.page[pageSize:]
	}
	return len(p), nil
}

// program writes a page. Here it only counts.
func (f *flash) program([]byte) { f.pages++ }

// Commit is called when the value is complete; the device answers the server when it returns.
func (f *flash) Commit(context.Context) error {
	if len(f.page) > 0 {
		f.program(f.page)
	}
	fmt.Println("wrote", f.pages, "pages")
	return nil
}

// Abort is called in place of Commit when the value remains incomplete. The old table stays in use.
func (f *flash) Abort(err error) { fmt.Println("incomplete:", err) }

// A device streams a large value into flash.
func ExampleStreamWriter() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	server, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		panic(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	served := make(chan error)
	go func() { served <- server.ServePacket(ctx, conn) }()

	table := calibration{lwm2m.NewValueObject(lwm2m.ValueObjectConfig{ID: 33000})}
	table.Set(lwm2m.NewPath(33000, 0, 1), lwm2m.String("2026-11"))
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "scale-1", Server: "coap://" + conn.LocalAddr().String(), Objects: []lwm2m.Object{table},
	})
	if err != nil {
		panic(err)
	}
	running, end := context.WithCancel(ctx)
	ran := make(chan error)
	go func() { ran <- client.Run(running) }()
	if err := client.WaitRegistered(ctx); err != nil {
		panic(err)
	}
	content := strings.NewReader(strings.Repeat("0123456789", 1000))
	err = server.WriteStream(ctx, "scale-1", lwm2m.NewPath(33000, 0, 0), content, content.Size())
	fmt.Println(err)

	end()
	fmt.Println(<-ran)
	stop()
	fmt.Println(<-served)
	// Output:
	// erase 10000 bytes
	// wrote 3 pages
	// <nil>
	// <nil>
	// <nil>
}
