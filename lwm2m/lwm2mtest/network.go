package lwm2mtest

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

// Serve starts a server at an address of a network, such as "10.0.0.1:5683", and stops it when the
// test ends. If config has Credentials, or a Certificate and ClientCAs, its devices come by coaps,
// else by coap. Start the clients of a test after it, so that they end before it.
func Serve(t testing.TB, network *simnet.Network, address string, config lwm2m.ServerConfig) *lwm2m.Server {
	t.Helper()
	conn, err := network.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	server, err := lwm2m.NewServer(config)
	if err != nil {
		t.Fatal(err)
	}
	serve := server.ServePacket
	if config.Credentials != nil || config.Certificate != nil {
		serve = server.ServeDTLS
	}
	run(t, func(ctx context.Context) error { return serve(ctx, conn) })
	return server
}

// Register starts a client at an address of a network, such as "10.0.0.2:0", and waits until it is
// registered, for at most ten minutes of the test's time. It stops the client when the test ends.
func Register(t testing.TB, network *simnet.Network, address string, config lwm2m.ClientConfig) *lwm2m.Client {
	t.Helper()
	config.Listen = func(context.Context) (net.PacketConn, error) { return network.Listen(address) }
	client, err := lwm2m.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	run(t, client.Run)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := client.WaitRegistered(ctx); err != nil {
		t.Fatalf("%s is not registered: %v", config.Endpoint, err)
	}
	return client
}

// run runs f until the test ends.
func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
