package firmware_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// TestDeliveryConfig: NewDelivery refuses each invalid configuration, and the error names the
// field.
func TestDeliveryConfig(t *testing.T) {
	images := openRepository(t, t.TempDir(), memory.New(), firmware.RepositoryConfig{})
	some := func(lwm2m.Registration, fsm.Protocol) string { return "" }
	for name, test := range map[string]struct {
		field  string
		config firmware.DeliveryConfig
	}{
		"no scheme":            {"BaseURL", firmware.DeliveryConfig{BaseURL: "fw.example.com/fw/"}},
		"no scheme, a port":    {"BaseURL", firmware.DeliveryConfig{BaseURL: "127.0.0.1:8080"}},
		"a name as scheme":     {"BaseURL", firmware.DeliveryConfig{BaseURL: "localhost:8080"}},
		"only a path":          {"BaseURL", firmware.DeliveryConfig{BaseURL: "/fw/"}},
		"no host":              {"BaseURL", firmware.DeliveryConfig{BaseURL: "http:///fw/"}},
		"only a port":          {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://:8080/fw/"}},
		"only a scheme":        {"BaseURL", firmware.DeliveryConfig{BaseURL: "http:"}},
		"opaque":               {"BaseURL", firmware.DeliveryConfig{BaseURL: "http:fw.example.com"}},
		"another scheme":       {"BaseURL", firmware.DeliveryConfig{BaseURL: "ftp://fw.example.com/"}},
		"coap+udp":             {"BaseURL", firmware.DeliveryConfig{BaseURL: "coap+udp://fw.example.com/"}},
		"unparsable":           {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://[::1/fw/"}},
		"a port of letters":    {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h:http/fw/"}},
		"a broken escape":      {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/%zz/"}},
		"user info":            {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://user:secret@h/fw/"}},
		"query":                {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/fw/?a=b"}},
		"an empty query":       {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h?"}},
		"fragment":             {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/fw/#a"}},
		"an empty fragment":    {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/#"}},
		"a space":              {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/f w/"}},
		"a control character":  {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/\n"}},
		"not ASCII":            {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/fwé/"}},
		"too long":             {"BaseURL", firmware.DeliveryConfig{BaseURL: "http://h/" + strings.Repeat("x", 96)}},
		"two bases":            {"BaseURLs", firmware.DeliveryConfig{BaseURL: "http://h/", BaseURLs: some}},
		"prefix without begin": {"Prefix", firmware.DeliveryConfig{Prefix: "fw/"}},
		"prefix without end":   {"Prefix", firmware.DeliveryConfig{Prefix: "/fw"}},
		"a long prefix":        {"Prefix", firmware.DeliveryConfig{Prefix: "/" + strings.Repeat("x", 45) + "/"}},
		"prefix with escapes":  {"Prefix", firmware.DeliveryConfig{Prefix: "/a%20b/"}},
		"prefix with a space":  {"Prefix", firmware.DeliveryConfig{Prefix: "/a b/"}},
		"prefix with a query":  {"Prefix", firmware.DeliveryConfig{Prefix: "/a?/"}},
		"prefix, two slashes":  {"Prefix", firmware.DeliveryConfig{Prefix: "//fw/"}},
		"prefix, dots":         {"Prefix", firmware.DeliveryConfig{Prefix: "/a/../fw/"}},
		"prefix of LwM2M":      {"Prefix", firmware.DeliveryConfig{Prefix: "/rd/"}},
		"prefix below Send":    {"Prefix", firmware.DeliveryConfig{Prefix: "/dp/fw/"}},
		"public prefix":        {"PublicPrefix", firmware.DeliveryConfig{PublicPrefix: "x"}},
		"a long public prefix": {"PublicPrefix", firmware.DeliveryConfig{PublicPrefix: "/" + strings.Repeat("x", 63) + "/"}},
		"the same prefixes":    {"PublicPrefix", firmware.DeliveryConfig{Prefix: "/a/", PublicPrefix: "/a/"}},
		"public where secret":  {"PublicPrefix", firmware.DeliveryConfig{PublicPrefix: "/fw/"}},
		"secret where public":  {"PublicPrefix", firmware.DeliveryConfig{Prefix: "/media/firmware/"}},
		"stall":                {"Stall", firmware.DeliveryConfig{Stall: -1}},
	} {
		d, err := firmware.NewDelivery(images, test.config)
		require.ErrorContains(t, err, "firmware: DeliveryConfig."+test.field+": ", name)
		require.NotContains(t, err.Error(), "secret", name)
		require.Nil(t, d, name)
	}
	_, err := firmware.NewDelivery(nil, firmware.DeliveryConfig{})
	require.EqualError(t, err, "firmware: NewDelivery: images is nil")
	for _, config := range []firmware.DeliveryConfig{
		{}, {BaseURLs: some}, {Prefix: "/"}, {Prefix: "/a/b-c_d.e/", PublicPrefix: "/a/"},
		{BaseURL: "http://h"}, {BaseURL: "HTTPS://[2001:db8::1]:8443/x/y/"}, {BaseURL: "coaps+tcp://fw.example.com"},
		{BaseURL: "http://h/" + strings.Repeat("x", 95)}, {Prefix: "/" + strings.Repeat("x", 44) + "/"},
	} {
		_, err := firmware.NewDelivery(images, config)
		require.NoError(t, err, "%+v", config)
	}

	// A manager needs a delivery of its own images.
	other := openRepository(t, t.TempDir(), memory.New(), firmware.RepositoryConfig{})
	d, err := firmware.NewDelivery(other, firmware.DeliveryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	_, err = firmware.NewManager(srv, memory.New(), images, firmware.ManagerConfig{Delivery: d})
	require.ErrorContains(t, err, "firmware: ManagerConfig.Delivery: ")
}
