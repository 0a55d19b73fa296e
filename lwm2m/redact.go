package lwm2m

import "log/slog"

var (
	_ slog.LogValuer = ClientConfig{}
	_ slog.LogValuer = FetchConfig{}
)

// LogValue is the configuration as a log may have it: what tells one client from another, and no
// key.
func (c ClientConfig) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("endpoint", c.Endpoint),
		slog.String("server", c.Server),
		slog.Bool("psk", len(c.PSK) > 0),
		slog.Bool("certificate", c.Certificate != nil),
		slog.String("lwm2m", c.Version),
		slog.Duration("lifetime", c.Lifetime),
		slog.Bool("queue", c.Queue),
	)
}

// LogValue is the configuration as a log may have it, without keys.
func (c FetchConfig) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("offset", c.Offset),
		slog.Bool("psk", len(c.PSK) > 0),
		slog.Bool("certificate", c.Certificate != nil),
		slog.Int("block_size", c.BlockSize),
		slog.Int64("max_size", c.MaxSize),
	)
}
