package lwm2m_test

import (
	"context"
	"testing"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// BenchmarkRead reads a resource of a device over UDP on loopback; the baseline is a bare request
// for the same bytes, without registration, queue, formats and models.
func BenchmarkRead(b *testing.B) {
	ctx, stop := context.WithCancel(b.Context())
	server := lwm2m.MustServer(lwm2m.ServerConfig{})
	conn, uri := listen()
	served := make(chan error, 1)
	go func() { served <- server.ServePacket(ctx, conn) }()
	client, err := lwm2m.NewClient(lwm2m.ClientConfig{
		Endpoint: "a", Server: uri, Objects: []lwm2m.Object{lwm2m.NewDeviceObject(lwm2m.DeviceObjectConfig{FirmwareVersion: "1.0.0"})},
	})
	if err != nil {
		b.Fatal(err)
	}
	running, end := context.WithCancel(b.Context())
	ran := make(chan error, 1)
	go func() { ran <- client.Run(running) }()
	if err := client.WaitRegistered(ctx); err != nil {
		b.Fatal(err)
	}
	defer func() {
		end()
		<-ran
		stop()
		<-served
	}()

	b.Run("Server.Read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := server.Read(ctx, "a", lwm2m.NewPath(3, 0, 3)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		bare, _ := listen()
		answers := coap.New(coap.Config{Handler: coap.HandlerFunc(func(context.Context, *coap.IncomingRequest) *coap.Response {
			return content(0, "1.0.0")
		})})
		answering := make(chan error, 1)
		serving, halt := context.WithCancel(ctx)
		go func() { answering <- answers.ServePacket(serving, bare) }()
		asks := coap.New(coap.Config{})
		peer, err := asks.Dial(ctx, coap.UDP, bare.LocalAddr().String())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := asks.Do(ctx, peer, &coap.Request{Code: coap.GET, Path: []string{"3", "0", "3"}}); err != nil {
				b.Fatal(err)
			}
		}
		asks.Close()
		halt()
		<-answering
	})
}
