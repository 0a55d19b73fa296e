package main

import (
	"cmp"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// The values of -install.
const (
	installSimulate = "simulate"
	installExec     = "exec"
)

// options holds the flags and the contents of the files that they name.
type options struct {
	server, endpoint   string
	lifetime           int
	lwm2m              string
	queue              bool
	pskIdentity, psk   string
	cert, key, ca      string
	state, version     string
	install, trustFile string
	fixedHost, profile string
	count              int
	about              about
	odd                odd
	confirmWithin      time.Duration
	fault              faults
	logLevel           string

	log         *slog.Logger
	trust       ed25519.PublicKey
	authorities *x509.CertPool   // nil: the system's
	certificate *tls.Certificate // nil: none
	pskKey      []byte           // nil: none
}

func parseOptions(args []string, lookup func(string) (string, bool), stderr io.Writer) (*options, error) {
	o := &options{}
	fs := cli.NewFlagSet(stderr, "client", "[flags]", "is a LwM2M device whose firmware can be updated, or a fleet of them.")
	fs.StringVar(&o.server, "server", "coap://127.0.0.1:5683", "`URI` of the LwM2M server: coap, coap+tcp; coaps with -psk-key-file or -cert; coaps+tcp with -cert")
	fs.StringVar(&o.endpoint, "endpoint", "otago-client", "endpoint `name`")
	fs.IntVar(&o.lifetime, "lifetime", 300, "lifetime of the registration in `seconds`")
	fs.StringVar(&o.lwm2m, "lwm2m", "1.1", "LwM2M `version`: 1.0, 1.1 or 1.2")
	fs.BoolVar(&o.queue, "queue", false, "register in queue mode")
	fs.StringVar(&o.pskIdentity, "psk-identity", "", "`identity` of the pre-shared key (default: the endpoint name)")
	fs.StringVar(&o.psk, "psk-key-file", "", "`file` with the pre-shared key for coaps in hex; downloads use it with the LwM2M server only")
	fs.StringVar(&o.cert, "cert", "", "`file` with the device's certificate for coaps and coaps+tcp, PEM; downloads offer it to the LwM2M server only")
	fs.StringVar(&o.key, "key", "", "`file` with its private key, PEM")
	fs.StringVar(&o.ca, "ca", "", "`file` with the authorities that servers' certificates are checked against, PEM (default: the system's)")
	fs.StringVar(&o.state, "state", "otago-client", "`folder` for what must survive a restart")
	fs.StringVar(&o.version, "version", "1.0.0", "`version` that the device was made with; one that was installed wins")
	fs.StringVar(&o.install, "install", installSimulate, "simulate: take demo images and pretend; exec: take bundles of this program and start them")
	fs.StringVar(&o.trustFile, "trust", "", "`file` with the public key that bundles must be signed with, PEM")
	fs.StringVar(&o.fixedHost, "fixed-host", "", "`base` URL that package URIs, then paths only, are appended to")
	fs.StringVar(&o.profile, "profile", "", "what kind of device to be: pull, push or fixed-host (default: one that does all)")
	fs.IntVar(&o.count, "count", 1, "how many devices to be, named NAME-1, NAME-2 ... if more than one")
	fs.StringVar(&o.about.manufacturer, "manufacturer", "otago", "`text` of 3/0/0, by which servers select devices")
	fs.StringVar(&o.about.model, "model", "example client", "`text` of 3/0/1, the same")
	fs.StringVar(&o.about.hardware, "hardware", "", "hardware `version`, 3/0/18, the same (default: the device has none)")
	fs.IntVar(&o.odd.fail, "fail", 0, "how many of the devices refuse each package (Result 5): the first ones")
	fs.IntVar(&o.odd.rollback, "rollback", 0, "how many go back to their old version: those after them")
	fs.IntVar(&o.odd.silent, "silent", 0, "how many register and answer no request, over coap: those after them")
	fs.DurationVar(&o.confirmWithin, "confirm-within", time.Minute, "how long a new version may take to register before it is rolled back")
	fs.Var(&o.fault, "fault", "`faults` to show, separated by commas: "+strings.Join(faultNames(), ", "))
	fs.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	if err := cli.Parse(fs, args, lookup); err != nil {
		return nil, err
	}
	if err := cli.NoArguments(fs); err != nil {
		return nil, err
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	return o, o.load(stderr)
}

// check refuses options that cannot work or are not implemented.
func (o *options) check() error {
	server, err := url.Parse(o.server)
	switch {
	case err != nil || server.Host == "":
		return cli.Usagef("-server %q is no URI such as coap://127.0.0.1:5683", o.server)
	case server.Scheme == "coaps" && o.psk == "" && o.cert == "":
		return cli.Usagef("-server %s needs -psk-key-file, or -cert and -key", o.server)
	case server.Scheme == "coaps+tcp" && o.cert == "":
		return cli.Usagef("-server %s needs -cert and -key; server pki makes them", o.server)
	case !slices.Contains([]string{"coap", "coaps", "coap+tcp", "coaps+tcp"}, server.Scheme):
		return cli.Usagef("-server %s: there is no LwM2M over %s", o.server, server.Scheme)
	case o.psk == "" && o.pskIdentity != "":
		return cli.Usagef("-psk-identity needs -psk-key-file")
	case o.psk != "" && o.cert != "":
		return cli.Usagef("-psk-key-file and -cert: a device has one or the other")
	case o.psk != "" && server.Scheme != "coaps":
		return cli.Usagef("-psk-key-file is for coaps, not for -server %s", o.server)
	case (o.cert == "") != (o.key == ""):
		return cli.Usagef("-cert and -key belong together")
	case !slices.Contains([]string{"1.0", "1.1", "1.2"}, o.lwm2m):
		return cli.Usagef("-lwm2m %q: not 1.0, 1.1 or 1.2", o.lwm2m)
	case o.lifetime < 1:
		return cli.Usagef("-lifetime must be at least 1 second")
	case o.count < 1:
		return cli.Usagef("-count must be at least 1")
	case !o.odd.of(o.count):
		return cli.Usagef("-fail %d, -rollback %d and -silent %d are no numbers of devices, together up to -count %d",
			o.odd.fail, o.odd.rollback, o.odd.silent, o.count)
	case o.odd.silent > 0 && server.Scheme != "coap":
		return cli.Usagef("-silent is for coap, not for -server %s", o.server)
	case o.endpoint == "":
		return cli.Usagef("-endpoint must not be empty")
	case len(o.endpoint) > 255:
		return cli.Usagef("-endpoint must not be longer than 255 bytes")
	case o.version == "":
		return cli.Usagef("-version must not be empty: it is what the device says that it runs")
	case len(o.version) > 255:
		return cli.Usagef("-version must not be longer than 255 bytes")
	case o.trustFile != "" && bundle.CheckVersion(o.version) != nil:
		return cli.Usagef("-version %q: bundles are for higher ones (-trust), and it is none: %v", o.version, bundle.CheckVersion(o.version))
	case o.confirmWithin <= 0:
		return cli.Usagef("-confirm-within must be more than 0")
	case o.install != installSimulate && o.install != installExec:
		return cli.Usagef("-install %q: not simulate or exec", o.install)
	case o.install == installExec && o.trustFile == "":
		return cli.Usagef("-install exec starts what it is sent: it needs -trust, the key that it must be signed with")
	case o.install == installExec && o.count > 1:
		return cli.Usagef("-install exec is for one device, -count %d", o.count)
	}
	return o.checkProfile()
}

func (o *options) checkProfile() error {
	switch o.profile {
	case "", "pull", "push":
	case "fixed-host":
		if o.fixedHost == "" {
			return cli.Usagef("-profile fixed-host needs -fixed-host")
		}
	default:
		return cli.Usagef("-profile %q: not pull, push or fixed-host", o.profile)
	}
	if base, err := url.Parse(o.fixedHost); o.fixedHost != "" && (err != nil || base.Host == "") {
		return cli.Usagef("-fixed-host %q is no URL such as http://127.0.0.1:8081", o.fixedHost)
	}
	return nil
}

// load reads the files that the flags name.
func (o *options) load(stderr io.Writer) (err error) {
	if o.log, err = cli.NewLogger(stderr, o.logLevel); err != nil {
		return err
	}
	if o.trustFile != "" {
		if o.trust, err = bundle.ReadPublicKey(o.trustFile); err != nil {
			return fmt.Errorf("-trust: %w", err)
		}
	}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		o.authorities = x509.NewCertPool()
		if !o.authorities.AppendCertsFromPEM(pem) {
			return fmt.Errorf("-ca: no certificate in %s", o.ca)
		}
	}
	if o.psk != "" {
		if o.pskKey, err = readKey(o.psk); err != nil {
			return fmt.Errorf("-psk-key-file: %w", err)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("-cert, -key: %w", err)
		}
		o.certificate = &pair
	}
	return nil
}

// readKey reads a pre-shared key in hexadecimal digits.
func readKey(path string) ([]byte, error) {
	text, err := cli.ReadSecret(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: not hexadecimal digits", path) // err would show a digit of the key
	}
	return key, nil
}

// about is what a device says of itself in Object 3.
type about struct{ manufacturer, model, hardware string }

// odd are numbers of devices that do not take an update.
type odd struct{ fail, rollback, silent int }

// of reports whether there can be so many among n devices.
func (o odd) of(n int) bool {
	return o.fail >= 0 && o.rollback >= 0 && o.silent >= 0 && o.fail <= n && o.rollback <= n-o.fail && o.silent <= n-o.fail-o.rollback
}

// faultsOf returns the faults of device i of -count, and whether it is silent.
func (o *options) faultsOf(i int) (f faults, silent bool) {
	f = maps.Clone(o.fault)
	if f == nil {
		f = faults{}
	}
	switch i -= o.odd.fail; {
	case i < 0:
		f[faultIntegrity] = true
	case i < o.odd.rollback:
		f[faultCrash] = true
	case i < o.odd.rollback+o.odd.silent:
		silent = true
	}
	return f, silent
}

// keys returns the credentials of a device for its LwM2M server.
func (o *options) keys(endpoint string) lwm2m.FetchConfig {
	c := lwm2m.FetchConfig{Certificate: o.certificate, RootCAs: o.authorities, PSK: o.pskKey}
	if c.PSK != nil {
		c.PSKIdentity = cmp.Or(o.pskIdentity, endpoint)
	}
	return c
}

// stateFolder returns the state folder of an endpoint.
func (o *options) stateFolder(endpoint string) string {
	name := url.PathEscape(endpoint)
	if name[0] == '.' { // a name such as .. would be another folder
		name = "%2E" + name[1:]
	}
	return filepath.Join(o.state, name)
}

// device returns the configuration of Object 5.
func (o *options) device(endpoint string, log *slog.Logger) device.Config {
	config := device.Config{
		TLS: &tls.Config{RootCAs: o.authorities, MinVersion: tls.VersionTLS12}, FixedHost: o.fixedHost, ConfirmWithin: o.confirmWithin,
		Logger: log,
	}
	if o.certificate != nil || o.pskKey != nil {
		config.Credentials = device.ServerCredentials(o.server, o.keys(endpoint))
		// The credentials are only for the server, at its scheme and port.
		config.Protocols = []fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTP, fsm.ProtocolHTTPS, fsm.ProtocolCoAPTCP}
		if scheme, _, _ := strings.Cut(o.server, ":"); scheme == "coaps" || scheme == "coaps+tcp" {
			config.Protocols = append(config.Protocols, fsm.Protocol(scheme))
		}
	}
	if o.lwm2m == "1.2" {
		config.ObjectVersion = fsm.Object12
	}
	switch o.profile {
	case "pull", "fixed-host":
		config.Delivery = fsm.DeliveryPull
	case "push":
		config.Delivery = fsm.DeliveryPush
	}
	return config
}
