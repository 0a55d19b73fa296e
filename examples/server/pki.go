package main

import (
	"fmt"
	"path/filepath"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/internal/pki"
)

// runPKI makes a private certificate authority, and certificates of the server and of devices.
func runPKI(args []string, env environment) error {
	fs := cli.NewFlagSet(env.stderr, "server pki", "[flags]",
		"makes a private certificate authority (ca.crt, ca.key), or reuses the one in the folder, and issues certificates.")
	dir := fs.String("dir", "pki", "`folder` for certificates and keys")
	var hosts, devices cli.List
	fs.Var(&hosts, "host", "`names` and IP addresses of the server: makes server.crt and server.key (default localhost,127.0.0.1,::1 for a new authority)")
	fs.Var(&devices, "device", "`endpoints` of devices: makes device-NAME.crt and .key for each")
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return err
	}
	if err := cli.NoArguments(fs); err != nil {
		return err
	}
	ca, fresh, err := pki.OpenCA(*dir)
	if err != nil {
		return err
	}
	if fresh {
		fmt.Fprintf(env.stdout, "%s\tthe authority, for the other side to trust\n", ca.CertFile())
		if len(hosts) == 0 {
			hosts = cli.List{"localhost", "127.0.0.1", "::1"}
		}
	}
	if len(hosts) > 0 {
		if err := ca.IssueServer("server", hosts); err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%s\tthe server, as %s\n", filepath.Join(*dir, "server.crt"), hosts.String())
	}
	for _, endpoint := range devices {
		if err := ca.IssueDevice(endpoint); err != nil {
			return err
		}
		fmt.Fprintf(env.stdout, "%s\tdevice %s\n", filepath.Join(*dir, pki.FileName(endpoint)+".crt"), endpoint)
	}
	if !fresh && len(hosts) == 0 && len(devices) == 0 {
		fmt.Fprintf(env.stdout, "%s exists; -host and -device issue more certificates\n", ca.CertFile())
	}
	return nil
}
