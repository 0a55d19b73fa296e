package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
)

// serve is the server itself.
func serve(ctx context.Context, args []string, env environment) (err error) {
	o, err := parseOptions(args, env)
	if err != nil {
		return err
	}
	logger, err := cli.NewLogger(env.stderr, o.logLevel)
	if err != nil {
		return err
	}
	config, err := o.backend()
	if err != nil {
		return err
	}
	config.Logger = logger
	config.Store, err = openStore(o.store, o.data, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Store.Close()) }()
	b, err := backend.Listen(ctx, config)
	if err != nil {
		return err
	}
	announce(logger, b)
	if o.cert != "" && !o.dtls() {
		logger.Info("no DTLS for devices: it needs -client-ca beside -cert, or -psk")
	}
	if err := b.Run(ctx); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// announce says where the server listens.
func announce(logger *slog.Logger, b *backend.Backend) {
	for _, door := range []struct {
		name    backend.Door
		purpose string
	}{
		{backend.CoAP, "devices, without security"},
		{backend.CoAPS, "devices"},
		{backend.CoAPTCP, "devices, without security"},
		{backend.CoAPSTCP, "devices"},
		{backend.FWHTTP, "packages"},
		{backend.FWHTTPS, "packages"},
		{backend.HTTP, "operators"},
	} {
		url := b.URL(door.name)
		if url == "" {
			continue
		}
		if door.name == backend.HTTP {
			url += "/api/"
		}
		logger.Info("listening", "for", door.purpose, "url", url)
	}
}
