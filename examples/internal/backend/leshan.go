package backend

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
)

// Leshan is the configuration of the bridge to flownexus; see package leshan. Without a Sink there
// is none.
type Leshan struct {
	leshan.Config
	// API is the address of the REST API that Django calls; "" if it calls none.
	API string
}

// addTo adds models for the resources that Django knows.
func (c Leshan) addTo(models *lwm2m.Models) error {
	if c.Sink == "" {
		return nil
	}
	return c.Types.AddTo(models)
}

func (c Leshan) check() error {
	switch {
	case c.API != "" && c.Sink == "":
		return fmt.Errorf("the API for Django on %s needs a sink too", c.API)
	case c.API != "" && !c.AnyAddress && !IsLoopback(c.API) && !isPrivate(c.API):
		return fmt.Errorf("the API for Django on %s, which is neither loopback nor in a private network, has to be asked for", c.API)
	}
	return nil
}

// isPrivate reports whether host:port is in a private network.
func isPrivate(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && leshan.Private(ip)
}

// openBridge opens the bridge. What an operator of this server updates is busy for Django.
func (b *Backend) openBridge() (err error) {
	config := b.config.Leshan.Config
	if config.Sink == "" {
		return nil
	}
	config.Logger = b.config.Logger
	config.Busy = func(endpoint string) string {
		for u, err := range b.manager.List(context.Background(), store.UpdateQuery{Endpoint: endpoint, Active: true, Limit: 1}) {
			if err == nil {
				return u.ID
			}
		}
		return ""
	}
	b.bridge, err = leshan.New(b.server, config)
	return err
}
