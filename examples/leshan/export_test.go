package leshan

import (
	"context"
	"net"
)

// SetDial makes a bridge connect to Django by a function.
func SetDial(b *Bridge, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.dial = dial
}

// Dial connects to Django as a bridge does.
func Dial(b *Bridge, ctx context.Context) (net.Conn, error) { return b.dialSink(ctx) } //nolint:revive // a method for tests
