package backend

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
)

// packagePath is the path of packages on each door, for the delivery handlers.
const packagePath = "/fw/"

// Advertise holds the beginning of package URIs, by protocol, where it is not the local address
// that the device used. It is a [flag.Value]: BASE or SCHEME=BASE, separated by commas.
type Advertise map[firmware.Protocol]string

// String returns the bases in the format of Set.
func (a *Advertise) String() string {
	if a == nil {
		return ""
	}
	bases := make([]string, 0, len(*a))
	for _, base := range *a {
		bases = append(bases, base)
	}
	return strings.Join(bases, ",")
}

// Set adds bases, such as https://fw.example.com/fw/ or https=fw.example.com.
func (a *Advertise) Set(value string) error {
	if *a == nil {
		*a = Advertise{}
	}
	for item := range strings.SplitSeq(value, ",") {
		protocol, base, err := parseBase(strings.TrimSpace(item))
		if err != nil {
			return err
		}
		if _, twice := (*a)[protocol]; twice {
			return fmt.Errorf("%s is given twice", protocol)
		}
		(*a)[protocol] = base
	}
	return nil
}

func parseBase(item string) (firmware.Protocol, string, error) {
	scheme, base, named := strings.Cut(item, "=")
	if !named {
		base = item
	} else if !strings.Contains(base, "://") {
		base = scheme + "://" + base
	}
	u, err := url.Parse(base)
	switch {
	case err != nil:
		return "", "", err
	case u.Host == "":
		return "", "", fmt.Errorf("%q is not [SCHEME=]BASE, such as https://fw.example.com/fw/", item)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", "", fmt.Errorf("%q: only scheme, host, port and path can be advertised", item)
	case named && u.Scheme != scheme:
		return "", "", fmt.Errorf("%q: the base is for %s", item, u.Scheme)
	}
	var protocol firmware.Protocol
	if err := protocol.UnmarshalText([]byte(u.Scheme)); err != nil || protocol == firmware.ProtocolAuto {
		return "", "", fmt.Errorf("%q: packages are not served by %s", item, u.Scheme)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = packagePath
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return protocol, u.String(), nil
}

// baseURL returns what the URI of a package starts with for one device and one protocol, "" if it
// is not served so.
func (b *Backend) baseURL(r lwm2m.Registration, protocol firmware.Protocol) string {
	if base := b.config.Advertise[protocol]; base != "" {
		return base
	}
	var bound net.Addr
	for door, scheme := range schemes {
		if address := b.address(door); address != nil && door != HTTP && door != LeshanAPI && scheme == protocol {
			bound = address
		}
	}
	if bound == nil {
		return ""
	}
	address := reachable(bound, r.Local.Addr())
	if address == "" {
		return ""
	}
	return protocol.String() + "://" + address + packagePath
}

// reachable returns the host:port by which a device reaches a listener, given the local address
// that it used to reach the server; "" if it does not.
func reachable(bound net.Addr, used netip.Addr) string {
	listener, err := netip.ParseAddrPort(bound.String())
	if err != nil {
		return ""
	}
	host := listener.Addr().Unmap()
	used = used.Unmap()
	switch {
	case !host.IsUnspecified():
		if used.IsValid() && host.IsLoopback() && !used.IsLoopback() {
			return "" // the device is on another machine
		}
	case used.IsValid() && !used.IsUnspecified():
		host = used.WithZone("")
	default:
		// The device has not been seen: any address of this machine says that there will be one.
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(host, listener.Port()).String()
}
