package leshan

import (
	"context"
	"net"
)

// SetDial makes a bridge connect to Django by a function.
func SetDial(b *Bridge, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.dial = dial
}
