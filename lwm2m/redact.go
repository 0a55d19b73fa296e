package lwm2m

import "log/slog"

var (
	_ slog.LogValuer = ClientConfig{}
	_ slog.LogValuer = FetchConfig{}
)

// LogValue returns the configuration for logs: what distinguishes clients, without keys.
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

// LogValue returns the configuration for logs, without keys.
func (c FetchConfig) LogValue() slog.Value {
	return slog.GroupValue(
		slog.Int64("offset", c.Offset),
		slog.Bool("psk", len(c.PSK) > 0),
		slog.Bool("certificate", c.Certificate != nil),
		slog.Int("block_size", c.BlockSize),
		slog.Int64("max_size", c.MaxSize),
	)
}
