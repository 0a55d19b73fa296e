package main

import (
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/examples/internal/pki"
)

// runPKI makes a private certificate authority, and certificates of the server and of devices.
func runPKI(args []string, env environment) error {
	fs := cli.NewFlagSet(env.stderr, "server pki", "[flags]",
		"makes a private certificate authority (ca.crt, ca.key), or reuses the one in the folder, and issues certificates.")
	dir := fs.String("dir", "pki", "`folder` for certificates and keys")
	var hosts, devices cli.List
	fs.Var(&hosts, "host", "`names` and IP addresses of the server: makes server.crt and server.key (default localhost, this machine's name, 127.0.0.1, ::1 for a new authority)")
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
			hosts = defaultHosts()
		}
	}
	if len(hosts) > 0 {
		if err := ca.IssueServer("server", hosts); err != nil {
			return err
		}
		file := filepath.Join(*dir, "server")
		fmt.Fprintf(env.stdout, "%s\tthe server, as %s\n", file+".crt", hosts.String())
		if name := nameOf(hosts); name != "" {
			fmt.Fprintf(env.stdout, "\tserver -cert %s.crt -key %[1]s.key -advertise https=%[2]s:8443\n", file, name)
		} else {
			fmt.Fprintln(env.stdout, "\tsome devices do not match IP addresses with a certificate: for those give a name too, with -host")
		}
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

// A dnsName is a DNS name in a certificate, in letters that every client accepts.
var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// defaultHosts returns the names of this machine, for itself and for its network.
func defaultHosts() cli.List {
	hosts := cli.List{"localhost"}
	if name, err := os.Hostname(); err == nil {
		if name = strings.ToLower(name); name != "localhost" && dnsName.MatchString(name) && net.ParseIP(name) == nil {
			hosts = append(hosts, name)
		}
	}
	return append(hosts, "127.0.0.1", "::1")
}

// nameOf returns the name for package URIs: preferably one that is valid beyond this machine, or ""
// if there is none.
func nameOf(hosts []string) string {
	local, known := "", ""
	for _, host := range hosts {
		switch {
		case net.ParseIP(host) != nil, strings.Contains(host, "*"):
		case host == "localhost":
			local = host
		default:
			known = cmp.Or(known, host)
		}
	}
	return cmp.Or(known, local)
}
