package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/otago-iot/otago/examples/internal/backend"
	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/leshan"
	"github.com/otago-iot/otago/lwm2m"
)

// leshanOptions are the flags of the bridge to flownexus.
type leshanOptions struct {
	sink, api, types, follow string
	literal504, nosec        bool
}

func (o *leshanOptions) flags(fs *flag.FlagSet) {
	fs.StringVar(&o.sink, "leshan-sink", "", "`URL` of flownexus's Django, which gets registrations and values as from Leshan")
	fs.StringVar(&o.api, "leshan-api", "", "`address` of the REST API of Leshan that Django calls, such as 127.0.0.1:8080; another than loopback or in a private network needs -leshan-nosec")
	fs.StringVar(&o.follow, "leshan-follow", "", "`paths` to observe on each device for Django, /3303/0/5700,/5/0/3 for example (default: those of flownexus's Leshan)")
	fs.StringVar(&o.types, "leshan-types", "", "`file` with the resource types that Django has loaded, db_initial_resource_types.json (default: those of flownexus)")
	fs.BoolVar(&o.literal504, "leshan-504", false, "answer Django with 504 after its timeout, as Leshan does, instead of when the device answers")
	fs.BoolVar(&o.nosec, "leshan-nosec", false, "allow -leshan-sink and -leshan-api outside of loopback and private networks: neither side authenticates")
}

func (o *leshanOptions) check() error {
	if o.sink == "" && (o.api != "" || o.follow != "" || o.types != "" || o.literal504) {
		return cli.Usagef("the -leshan flags need -leshan-sink")
	}
	return nil
}

// config makes the configuration of the bridge, whose state file is in the folder data.
func (o *leshanOptions) config(data string) (config backend.Leshan, err error) {
	config.API = o.api
	config.Config = leshan.Config{
		Sink: o.sink, State: filepath.Join(data, "leshan.log"), Literal504: o.literal504, AnyAddress: o.nosec,
	}
	if o.types != "" {
		f, err := os.Open(o.types)
		if err != nil {
			return config, fmt.Errorf("-leshan-types: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		if config.Types, err = leshan.ReadTypes(f); err != nil {
			return config, fmt.Errorf("-leshan-types: %w", err)
		}
	}
	if o.follow == "" {
		return config, nil
	}
	for text := range strings.SplitSeq(o.follow, ",") {
		p, err := lwm2m.ParsePath(strings.TrimSpace(text))
		if err != nil {
			return config, fmt.Errorf("-leshan-follow: %w", err)
		}
		config.Follow = append(config.Follow, p)
	}
	return config, nil
}
