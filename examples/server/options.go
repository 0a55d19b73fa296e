package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
)

// options are the flags of the server.
type options struct {
	coap, coaps, coapTCP, coapsTCP string
	http, fwHTTP, fwHTTPS          string
	nosec                          bool
	tokenFile                      string
	publicPrefix                   string
	psk, cert, key, clientCA       string
	advertise                      backend.Advertise
	data, store, models            string
	compact, standby               bool
	leshan                         leshanOptions
	maxImage, socketBuffer         size
	server                         lwm2m.ServerConfig
	manager                        firmware.ManagerConfig
	web                            firmware.HTTPConfig
	traces                         traceOptions
	logLevel                       string
	given                          map[string]bool // flags that were set
}

// subCommands ends the help.
const subCommands = `
Sub-commands; each has a help of its own, server pki -h and so on:
  pki
    	make a private authority, and certificates for the server and devices
  bundle
    	make keys for signed packages, sign packages, check them
  export
    	write the firmware update table, or the rollouts, as CSV or JSON lines
  copy
    	copy a store into another one
`

func parseOptions(args []string, env environment) (*options, error) {
	o := &options{}
	fs := o.flags(env)
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return nil, err
	}
	if err := cli.NoArguments(fs); err != nil {
		return nil, err
	}
	o.given = cli.Given(fs)
	return o, o.check()
}

// flags makes the flags, which set o.
func (o *options) flags(env environment) *flag.FlagSet {
	o.maxImage, o.socketBuffer = 1<<30, 32<<20
	fs := cli.NewFlagSet(env.stderr, "server", "[flags] | pki | bundle | export | copy",
		"is an update server for LwM2M devices: devices by CoAP, packages by HTTP(S), operators by a JSON API.")
	fs.StringVar(&o.coap, "coap", "127.0.0.1:5683", "`address` for devices by CoAP without security; another than loopback needs -nosec")
	fs.StringVar(&o.coaps, "coaps", ":5684", "`address` for devices by DTLS, open once -psk, or -cert and -client-ca, are given")
	fs.StringVar(&o.coapTCP, "coap-tcp", "", "`address` for devices by CoAP over TCP without security, as -coap")
	fs.StringVar(&o.coapsTCP, "coaps-tcp", "", "`address` for devices by CoAP over TLS; needs -cert and -client-ca")
	fs.StringVar(&o.http, "http", "127.0.0.1:8080", "`address` of the operators' API; another than loopback needs -api-token-file")
	fs.StringVar(&o.fwHTTP, "fw-http", "127.0.0.1:8081", "`address` for devices that download by HTTP")
	fs.StringVar(&o.fwHTTPS, "fw-https", ":8443", "`address` for devices that download by HTTPS, open once -cert is given")
	fs.StringVar(&o.publicPrefix, "public-prefix", "/media/firmware/", "`path` of packages for devices of the profile fixed-host, which fetch them without a secret")
	fs.BoolVar(&o.nosec, "nosec", false, "allow CoAP without security on other addresses than loopback")
	fs.StringVar(&o.tokenFile, "api-token-file", "", "`file` with the tokens that operators show (Authorization: Bearer TOKEN): a line for each, TOKEN or NAME TOKEN, where the name is for journals")
	fs.StringVar(&o.psk, "psk", "", "`file` with pre-shared keys: identity, hex key, endpoint (default: the identity)")
	fs.StringVar(&o.cert, "cert", "", "`file` with the server's certificate chain, PEM")
	fs.StringVar(&o.key, "key", "", "`file` with its private key, PEM")
	fs.StringVar(&o.clientCA, "client-ca", "", "`file` with the authorities of devices' certificates, PEM")
	fs.Var(&o.advertise, "advertise", "`bases` that package URIs start with, as [scheme=]BASE,... (default: the local address that the device used; some devices match only a name with a certificate)")
	fs.StringVar(&o.data, "data", "otago-data", "`folder` for the database and the images")
	fs.StringVar(&o.store, "store", "", "`place` of the records: bolt:FILE, memory: or postgres://USER@HOST/DATABASE (default bolt:ota.db in the data folder)")
	fs.BoolVar(&o.standby, "standby", false, "with a store in PostgreSQL: while another server has it, wait, and go on where that ends")
	fs.StringVar(&o.models, "models", "", "`folder` with object models, XML of the OMA registry, beside those of the registry itself")
	fs.BoolVar(&o.compact, "compact", false, "give the room of deleted records back to the disk before the server starts")
	fs.Var(&o.maxImage, "max-image", "the largest image, in `bytes` or as 16MiB, 1GiB")
	fs.IntVar(&o.manager.Retain.PerEndpoint, "retain", 20, "how many ended `updates` of each device stay; -1 is no limit")
	fs.DurationVar(&o.manager.Retain.Age, "retain-age", 365*24*time.Hour, "how long an ended update or rollout stays, as `duration` such as 2160h; -1s is no limit")
	o.leshan.flags(fs)
	fs.StringVar(&o.traces.url, "otlp", "", "`URL` of a collector for traces by OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; the variables OTEL_EXPORTER_OTLP_... work too")
	fs.BoolVar(&o.traces.requests, "otlp-requests", false, "traces have a span for each action with the device")
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	o.limits(fs)
	flags := fs.Usage
	fs.Usage = func() {
		flags()
		fmt.Fprint(env.stderr, subCommands)
	}
	return fs
}

// limits makes the flags for limits that a big fleet may reach. They have the names and defaults of
// fields of the library; doc/sizing.md says when to change them.
func (o *options) limits(fs *flag.FlagSet) {
	connections := "`number` of CoAP connections, TCP and TLS; 0 is a quarter of the files that may be open, at most 10000"
	downloads := "`number` of connections on each address for HTTP or HTTPS; 0 is an eighth of the files that may be open, at most 8192"
	s, m := &o.server, &o.manager
	fs.IntVar(&s.MaxRegistrations, "max-registrations", 4_000_000, "`number` of devices that the server knows")
	fs.IntVar(&s.MaxPeers, "max-peers", 1_000_000, "`number` of addresses and DTLS associations that the server keeps")
	fs.IntVar(&s.MaxHandshakes, "max-handshakes", 1000, "`number` of DTLS handshakes at the same time")
	fs.IntVar(&s.MaxTransfers, "max-transfers", 4096, "`number` of block-wise transfers of devices at the same time, of each direction")
	fs.IntVar(&s.MaxConnections, "max-connections", 0, connections)
	fs.IntVar(&o.web.MaxConnections, "http-max-connections", 0, downloads)
	fs.Var(&o.socketBuffer, "socket-buffer", "size of the buffers of UDP sockets, in `bytes` or as 32MiB; the system may give less")
	fs.IntVar(&m.Parallel, "parallel", 1024, "`number` of requests in progress with devices that answer, and of pushes")
	fs.IntVar(&m.Silent, "silent", 16_384, "`number` of requests that devices have left unanswered")
}

// dtls reports whether devices can authenticate over DTLS.
func (o *options) dtls() bool { return o.psk != "" || o.cert != "" && o.clientCA != "" }

// check refuses options that cannot work or are not implemented.
func (o *options) check() error {
	switch {
	case o.given["coaps"] && o.coaps != "" && !o.dtls():
		return cli.Usagef("-coaps needs -psk, or -cert, -key and -client-ca; server pki makes them")
	case o.coapsTCP != "" && (o.cert == "" || o.clientCA == ""):
		return cli.Usagef("-coaps-tcp needs -cert, -key and -client-ca; server pki makes them")
	case o.manager.Retain.PerEndpoint == 0 || o.manager.Retain.Age == 0:
		return cli.Usagef("-retain and -retain-age must not be 0; a negative value is no limit")
	case o.socketBuffer > 1<<30:
		return cli.Usagef("-socket-buffer %s is more than 1GiB", &o.socketBuffer)
	case (o.cert == "") != (o.key == ""):
		return cli.Usagef("-cert and -key belong together")
	case o.given["fw-https"] && o.fwHTTPS != "" && o.cert == "":
		return cli.Usagef("-fw-https needs -cert and -key; server pki makes them")
	case o.coap != "" && !o.nosec && !backend.IsLoopback(o.coap):
		return cli.Usagef("-coap %s is not loopback: without security it needs -nosec", o.coap)
	case o.coapTCP != "" && !o.nosec && !backend.IsLoopback(o.coapTCP):
		return cli.Usagef("-coap-tcp %s is not loopback: without security it needs -nosec", o.coapTCP)
	case o.http != "" && o.tokenFile == "" && !backend.IsLoopback(o.http):
		return cli.Usagef("-http %s is not loopback: it needs -api-token-file", o.http)
	}
	return o.leshan.check()
}

// backend makes the backend's configuration, and reads the files that the flags name.
func (o *options) backend() (backend.Config, error) {
	config := backend.Config{
		Images: filepath.Join(o.data, "images"), MaxImage: int64(o.maxImage), Server: o.server, Manager: o.manager, Web: o.web,
		CoAP: o.coap, CoAPTCP: o.coapTCP, CoAPSTCP: o.coapsTCP, HTTP: o.http, FWHTTP: o.fwHTTP, NoSec: o.nosec, Advertise: o.advertise,
		PublicPrefix: o.publicPrefix,
	}
	config.Server.SocketBuffer = int(o.socketBuffer)
	var err error
	if o.dtls() {
		config.CoAPS = o.coaps
	}
	if o.psk != "" {
		keys := lwm2m.PSKFile(o.psk)
		if err := keys.Err(); err != nil {
			return config, fmt.Errorf("-psk: %w", err)
		}
		config.Credentials = keys
	}
	if o.tokenFile != "" {
		if config.Token, err = cli.ReadSecret(o.tokenFile); err != nil {
			return config, fmt.Errorf("-api-token-file: %w", err)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return config, fmt.Errorf("-cert, -key: %w", err)
		}
		config.Certificate, config.FWHTTPS = &pair, o.fwHTTPS
	}
	if o.clientCA != "" {
		data, err := os.ReadFile(o.clientCA)
		if err != nil {
			return config, fmt.Errorf("-client-ca: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(data) {
			return config, fmt.Errorf("-client-ca: %s holds no certificate", o.clientCA)
		}
	}
	config.Leshan, err = o.leshan.config(o.data)
	return config, err
}

// size is a flag for a number of bytes.
type size int64

var _ flag.Value = (*size)(nil)

func (s *size) String() string {
	for _, unit := range []struct {
		suffix string
		shift  int
	}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}} {
		if *s != 0 && *s%(1<<unit.shift) == 0 {
			return strconv.FormatInt(int64(*s>>unit.shift), 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Set(text string) error {
	shift := 0
	for suffix, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, shift = strings.TrimSpace(rest), n
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > 1<<40>>shift {
		return errors.New("not a size such as 1000000, 16MiB or 1GiB, up to 1024GiB")
	}
	*s = size(n << shift)
	return nil
}
