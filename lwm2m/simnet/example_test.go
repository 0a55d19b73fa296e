package simnet_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/otago-iot/otago/lwm2m/simnet"
)

func ExampleNetwork() {
	network := simnet.New(1)
	server, _ := network.Listen("10.0.0.1:5683")
	device, _ := network.Listen("10.0.0.2:0")
	defer server.Close()
	defer device.Close()

	// Every second datagram to the server is lost.
	network.SetLink(netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.1"), simnet.Conditions{
		Drop: func(p simnet.Packet) bool { return p.Seq%2 == 1 },
	})
	for _, word := range []string{"one", "two", "three"} {
		device.WriteTo([]byte(word), server.LocalAddr())
	}
	// A NAT gives the device another address.
	device.Rebind(netip.MustParseAddrPort("192.0.2.7:4000"))
	device.WriteTo([]byte("four"), server.LocalAddr())

	buf := make([]byte, 16)
	for {
		server.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		n, from, err := server.ReadFrom(buf)
		if err != nil {
			fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
			return
		}
		fmt.Println(from, string(buf[:n]))
	}
	// Output:
	// 10.0.0.2:49153 one
	// 10.0.0.2:49153 three
	// 192.0.2.7:4000 four
	// true
}
