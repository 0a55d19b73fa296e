package main

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/url"

	"go.opentelemetry.io/otel"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware"
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
	if config.Models, err = loadModels(o.models, logger); err != nil {
		return err
	}
	config.Store, err = openStore(ctx, storePlace{name: o.store, data: o.data, compact: o.compact, standby: o.standby}, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, config.Store.Close()) }()
	ctx, stop, taken := guard(ctx, &config)
	defer stop()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("telemetry failed", "error", err) }))
	end, err := withTelemetry(ctx, &config, o.traces)
	if err != nil {
		return cli.Usagef("-otlp: %v", err)
	}
	defer func() {
		if err := end(); err != nil {
			logger.Warn("the last traces were not sent", "error", err)
		}
	}()
	b, err := backend.Listen(ctx, config)
	if err != nil {
		return err
	}
	announce(logger, b)
	if url := b.URL(backend.FWHTTPS); url != "" {
		advise(logger, url, o.advertise[firmware.ProtocolHTTPS], config.Certificate.Leaf)
	}
	if o.cert != "" && !o.dtls() {
		logger.Info("no DTLS for devices: it needs -client-ca beside -cert, or -psk")
	}
	if err := errors.Join(b.Run(ctx), taken()); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// announce logs the addresses of the server.
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
		{backend.LeshanAPI, "Django of flownexus"},
		{backend.HTTP, "operators"},
	} {
		url := b.URL(door.name)
		if url == "" {
			continue
		}
		if door.name == backend.HTTP {
			url += "/api/v1/"
		}
		logger.Info("listening", "for", door.purpose, "url", url)
	}
}

// advise logs why devices may not trust the certificate for package URIs with HTTPS. These begin
// with the advertised base, or with the local address that a device used, but some TLS clients,
// mbedTLS 2.28 among them, match names only.
func advise(logger *slog.Logger, door, advertised string, certificate *x509.Certificate) {
	at, err := url.Parse(door)
	if err != nil {
		return
	}
	base, err := url.Parse(advertised)
	if err != nil {
		return
	}
	if host := base.Hostname(); host != "" && net.ParseIP(host) == nil {
		if err := certificate.VerifyHostname(host); err != nil {
			logger.Warn("devices will not trust the advertised base", "advertise", advertised, "error", err)
		}
		return
	}
	name := nameOf(certificate.DNSNames)
	if name == "" {
		logger.Warn("some devices do not match IP addresses with a certificate, and this one has no name; server pki -host makes one that has")
		return
	}
	logger.Info("some devices do not match IP addresses with a certificate; package URIs get a name by a flag",
		"flag", "-advertise https="+net.JoinHostPort(name, at.Port()))
}
