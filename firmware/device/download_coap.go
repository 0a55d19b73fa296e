package device

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// ServerCredentials returns a function for [Config.Credentials]. It offers the keys of config only
// to the host and port of the LwM2M server at uri, which has them already. For other hosts it
// returns just the RootCAs of config.
func ServerCredentials(uri string, config lwm2m.FetchConfig) func(host string) lwm2m.FetchConfig {
	server, err := url.Parse(uri)
	return func(host string) lwm2m.FetchConfig {
		if err == nil && server.Host != "" && strings.EqualFold(host, hostPort(server)) {
			return config
		}
		return lwm2m.FetchConfig{RootCAs: config.RootCAs}
	}
}

// fetchCoAP downloads what follows the offset. Without keys for the host no try can succeed: the
// URI is to blame.
func (t *transfer) fetchCoAP(ctx context.Context) error {
	var config lwm2m.FetchConfig
	if keys := t.device.config.Credentials; keys != nil {
		var err error
		config, err = leased(ctx, t.device.keys, "Credentials", hookLimit, func() (lwm2m.FetchConfig, error) { return keys(hostPort(t.url)), nil })
		if err != nil {
			return err
		}
	}
	if secured(fsm.Protocol(t.url.Scheme)) && len(config.PSK) == 0 && config.Certificate == nil && config.RootCAs == nil {
		return invalidURI("there are no credentials for host %q", t.url.Host)
	}
	etag, err := hex.DecodeString(t.etag)
	if err != nil {
		return fmt.Errorf("%w: the entity tag is of another protocol", errStartOver)
	}
	config.Offset, config.ETag, config.Size, config.MaxSize = t.offset, etag, max(t.size, 0), t.device.config.MaxSize
	config.Begun = t.begun
	sink := &errorKeeper{out: t}
	result, err := lwm2m.Fetch(ctx, t.url.String(), sink, config)
	if err == nil {
		if t.size < 0 {
			t.size = result.Size
		}
		return t.reached()
	}
	if sink.err != nil {
		return sink.err
	}
	return coapError(err)
}

// begun records the entity tag and the size of what arrives, so that the download can be resumed.
func (t *transfer) begun(r lwm2m.FetchResult) {
	t.etag = hex.EncodeToString(r.ETag)
	if r.Size >= 0 {
		t.changed = t.size >= 0 && t.size != r.Size
		t.size = r.Size
	}
}

// coapError classifies an error of [lwm2m.Fetch], as statusError does for HTTP.
func coapError(err error) error {
	response, answered := errors.AsType[*lwm2m.ResponseError](err)
	dns, unresolved := errors.AsType[*net.DNSError](err)
	switch {
	case unresolved && dns.IsNotFound:
		return invalidURI("no such host")
	case errors.Is(err, lwm2m.ErrUnsupportedScheme), errors.Is(err, lwm2m.ErrNotImplemented) && !answered:
		return &ResultError{Result: fsm.ResultUnsupProtocol, Err: err}
	case errors.Is(err, lwm2m.ErrPath):
		return &ResultError{Result: fsm.ResultInvalidURI, Err: err}
	case errors.Is(err, lwm2m.ErrTooLarge) && !answered:
		return fmt.Errorf("%w: %w", ErrNoStorage, err)
	case errors.Is(err, lwm2m.ErrChanged), errors.Is(err, lwm2m.ErrIncomplete), errors.Is(err, lwm2m.ErrPreconditionFailed):
		return fmt.Errorf("%w: %w", errStartOver, err)
	case answered && response.Code>>5 == 4 && response.Code != lwm2m.CodeTooManyRequests:
		return &ResultError{Result: fsm.ResultInvalidURI, Err: err}
	}
	return transient(err)
}
