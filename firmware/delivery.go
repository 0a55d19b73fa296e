package firmware

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// DeliveryConfig is the configuration of a [Delivery]. Its zero value serves packages by CoAP, at
// the address by which a device reached the server.
type DeliveryConfig struct {
	// BaseURL is the start of Package URIs, for the protocol that its scheme names (http, https,
	// coap, coaps, coap+tcp, coaps+tcp). The Delivery appends Prefix, if BaseURL has no path, and a
	// secret of 22 bytes. BaseURL has a host, no user info, no query and no fragment; with the
	// secret it has at most 127 bytes, as some devices store no more. Default: none.
	BaseURL string
	// BaseURLs replaces BaseURL. It returns the base for a device and a protocol, or "" if the
	// device gets no packages by that protocol. The Delivery calls it often, from several
	// goroutines; it must not block. For a device that has not registered yet the Registration is
	// zero. Default: BaseURL for its scheme and, for the CoAP protocol that the device itself uses,
	// the address by which it reached the server, with Prefix, if [Delivery.ServeCoAP] is mounted
	// there.
	BaseURLs func(lwm2m.Registration, Protocol) string
	// Prefix is the path below which the Delivery serves secret URIs. It begins and ends with a
	// slash, has at most 46 bytes, and needs no escapes. Deliveries that share a server need
	// different prefixes. Default: "/fw/".
	Prefix string
	// PublicPrefix is the path below which the Delivery serves packages without a secret, to
	// devices whose profile allows only a path (fsm.Profile.PathOnly). It has the form of Prefix,
	// with at most 64 bytes. Default: "/media/firmware/".
	PublicPrefix string
	// Stall is how long a device that downloads by HTTP may read nothing before the Delivery closes
	// its connection: see [Delivery.ServeHTTP]. Default: 2 minutes.
	Stall time.Duration
	// Logger receives what an operator should know, such as an image that cannot be read. It never
	// receives secrets. Default: nothing is logged.
	Logger *slog.Logger
}

// A Delivery serves the packages of a [Repository] to devices. It makes the Package URIs of
// updates, checks requests for them, and reports progress to the [Manager] of the updates.
//
// The program mounts it where devices can reach it: on an HTTP server as a handler
// ([Delivery.ServeHTTP], [Delivery.Wrap]), on an lwm2m.Server as a download function
// ([Delivery.ServeCoAP]). A Package URI is valid from before the device gets it until the update
// ends, also after a restart of the server.
type Delivery struct {
	images *Repository
	config DeliveryConfig
	log    *slog.Logger
	table  grants

	notMounted sync.Once // logs that ServeCoAP is not mounted
}

// NewDelivery returns a delivery of images. The error says which field of config is invalid, and
// why.
func NewDelivery(images *Repository, config DeliveryConfig) (*Delivery, error) {
	if images == nil {
		return nil, errors.New("firmware: NewDelivery: images is nil")
	}
	var err error
	if config.Prefix, err = prefix("Prefix", config.Prefix, "/fw/", maxPrefix); err != nil {
		return nil, err
	}
	if config.PublicPrefix, err = prefix("PublicPrefix", config.PublicPrefix, "/media/firmware/", maxPublicPrefix); err != nil {
		return nil, err
	}
	switch {
	case config.Prefix == config.PublicPrefix:
		return nil, fmt.Errorf("firmware: DeliveryConfig.PublicPrefix: %q is also the Prefix", config.PublicPrefix)
	case config.Stall < 0:
		return nil, fmt.Errorf("firmware: DeliveryConfig.Stall: %s is negative", config.Stall)
	case config.BaseURL != "" && config.BaseURLs != nil:
		return nil, errors.New("firmware: DeliveryConfig.BaseURLs: BaseURL is set too")
	case config.BaseURL != "":
		if config.BaseURL, err = checkBaseURL(config.BaseURL, config.Prefix); err != nil {
			return nil, err
		}
	}
	if config.Stall == 0 {
		config.Stall = 2 * time.Minute
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Delivery{images: images, config: config, log: config.Logger}
	d.table.byHash, d.table.byUpdate = make(map[string]*download), make(map[string][]string)
	return d, nil
}

const (
	// maxPrefix leaves room for a secret after the longest address: coaps+tcp://[IPv6]:port has 59
	// bytes.
	maxPrefix = maxURI - tokenChars - 59
	// maxPublicPrefix leaves room for the id of an image.
	maxPublicPrefix = 64
)

// prefix returns a path prefix of the configuration, or why it is invalid.
func prefix(field, given, byDefault string, most int) (string, error) {
	bad := func(problem string) (string, error) {
		return "", fmt.Errorf("firmware: DeliveryConfig.%s: %q %s", field, given, problem)
	}
	switch {
	case given == "":
		return byDefault, nil
	case !strings.HasPrefix(given, "/") || !strings.HasSuffix(given, "/"):
		return bad("does not begin and end with a slash")
	case len(given) > most:
		return bad(fmt.Sprintf("has more than %d bytes", most))
	case plain(strings.ReplaceAll(given, "/", "-")) != strings.ReplaceAll(given, "/", "-"):
		return bad("has characters other than letters, digits, '.', '-', '_' and '/'")
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(given[1:], "/"), "/") {
		if given != "/" && segment == "" || segment == "." || segment == ".." {
			return bad("has an empty segment, '.' or '..'")
		}
	}
	if first, _, _ := strings.Cut(given[1:], "/"); first == "rd" || first == "dp" || first == "bs" || first == ".well-known" {
		return bad("is a path of LwM2M or CoAP itself")
	}
	return given, nil
}

// checkBaseURL returns DeliveryConfig.BaseURL with its path, or why it is invalid.
func checkBaseURL(base, prefix string) (string, error) {
	scheme, _, ok := strings.Cut(base, "://")
	known := func(p fsm.Protocol) bool { return strings.EqualFold(p.String(), scheme) }
	if !ok || !slices.ContainsFunc(preferred, known) {
		return "", errors.New("firmware: DeliveryConfig.BaseURL: does not begin with http://, https://, coap://, coaps://, coap+tcp:// or coaps+tcp://")
	}
	u, err := url.Parse(base)
	if err != nil {
		return "", errors.New("firmware: DeliveryConfig.BaseURL: " + errors.Unwrap(err).Error()) // err would show all of it
	}
	if u.Path == "" && !u.ForceQuery && u.RawQuery == "" && u.Fragment == "" {
		base += prefix
	}
	if _, err := tokenURI(base, strings.Repeat("x", tokenChars)); err != nil {
		return "", fmt.Errorf("firmware: DeliveryConfig.BaseURL: %s", strings.TrimPrefix(err.Error(), "firmware: "))
	}
	return base, nil
}
