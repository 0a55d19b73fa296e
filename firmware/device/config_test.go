package device

import (
	"crypto/ed25519"
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// TestConfigErrors gives New invalid configurations: the error names the field.
func TestConfigErrors(t *testing.T) {
	keys := func(string) lwm2m.FetchConfig { return lwm2m.FetchConfig{} }
	for want, config := range map[string]Config{
		"ObjectVersion: 99 ":                                {ObjectVersion: 99},
		`Delivery: "both" is not`:                           {Delivery: "both"},
		`Protocols: "ftp" is no`:                            {Protocols: []fsm.Protocol{"ftp"}},
		"Protocols: http is there twice":                    {Protocols: []fsm.Protocol{"http", "coap", "http"}},
		"Protocols: coaps needs Cred":                       {Protocols: []fsm.Protocol{"coaps"}},
		"Protocols: coaps+tcp needs Cred":                   {Protocols: []fsm.Protocol{"coap", "coaps+tcp"}},
		`Hosts: ""`:                                         {Hosts: []string{"a", ""}},
		`Hosts: "https://fw.example.com"`:                   {Hosts: []string{"https://fw.example.com"}},
		`Hosts: "fw.example.com/x"`:                         {Hosts: []string{"fw.example.com/x"}},
		`Hosts: "fw.example.com:https"`:                     {Hosts: []string{"fw.example.com:https"}},
		`Hosts: "fw.example.com:"`:                          {Hosts: []string{"fw.example.com:"}},
		`FixedHost: "fw.example.com" is not`:                {FixedHost: "fw.example.com"},
		`FixedHost: "https:///x" is not`:                    {FixedHost: "https:///x"},
		`FixedHost: "https://a/?q" is not`:                  {FixedHost: "https://a/?q"},
		"FixedHost: coaps needs Cred":                       {FixedHost: "coaps://a"},
		`FixedHost: Protocols or Hosts exclude "ftp://a"`:   {FixedHost: "ftp://a"},
		`FixedHost: Protocols or Hosts exclude "https://b"`: {FixedHost: "https://b", Hosts: []string{"a"}},
		"MaxRedirects: -1 is negative":                      {MaxRedirects: -1},
		"TLS: Transport is set":                             {TLS: &tls.Config{}, Transport: http.DefaultTransport},
		"Attempts: -1 is negative":                          {Attempts: -1},
		"MinBackoff: -1s is negative":                       {MinBackoff: -time.Second},
		"MaxBackoff: -1s is negative":                       {MaxBackoff: -time.Second},
		"MaxBackoff: 1s is below MinBackoff":                {MinBackoff: time.Minute, MaxBackoff: time.Second},
		"Idle: -1ns is negative":                            {Idle: -1},
		"MaxSize: -1 is negative":                           {MaxSize: -1},
		"SyncEvery: -1 is negative":                         {SyncEvery: -1},
		"ConfirmWithin: -1m0s is negative":                  {ConfirmWithin: -time.Minute},
	} {
		_, err := New(new(emptyInstaller), config)
		require.ErrorContains(t, err, "device: Config."+want)
	}
	for _, installer := range []Installer{nil, (*Slots)(nil)} {
		_, err := New(installer, Config{})
		require.EqualError(t, err, "device: the Installer is nil")
	}
	for _, config := range []Config{
		{},
		{Protocols: []fsm.Protocol{"coaps", "coaps+tcp"}, Credentials: keys},
		{Hosts: []string{"fw.example.com", "fw.example.com:8443", "192.0.2.1", "192.0.2.1:80", "::1", "[::1]:80"}},
		{FixedHost: "https://fw.example.com/media", Hosts: []string{"fw.example.com"}},
		{FixedHost: "coaps://fw.example.com", Credentials: keys},
		{MinBackoff: 2 * time.Minute},
	} {
		_, err := New(new(emptyInstaller), config)
		require.NoError(t, err)
	}
}

// emptyInstaller is an Installer whose methods are never called.
type emptyInstaller struct{ Installer }

// TestSlotConfigErrors gives OpenSlots invalid configurations.
func TestSlotConfigErrors(t *testing.T) {
	public, _ := testKey()
	for want, config := range map[string]SlotConfig{
		"Trust: not set":            {},
		"Trust: Inspect is set":     {Trust: public, Inspect: inspectTest},
		"Trust: has 31 bytes":       {Trust: make(ed25519.PublicKey, 31)},
		"Name: needs Trust":         {Inspect: inspectTest, Name: "sensor"},
		`Slot: "c" is not`:          {Trust: public, Slot: "c"},
		"MaxSize: -1 is negative":   {Trust: public, MaxSize: -1},
		"MaxStarts: -1 is negative": {Trust: public, MaxStarts: -1},
		"Version: ":                 {Trust: public, Version: "latest"},
	} {
		_, err := OpenSlots(t.TempDir(), config)
		require.ErrorContains(t, err, "device: SlotConfig."+want)
	}
	_, err := OpenSlots("", SlotConfig{Trust: public})
	require.EqualError(t, err, "device: the directory of the slots is not set")
}

// TestSlotsUnwritable opens a directory in which no file can be made. A directory in place of the
// file has that effect for every user, even root.
func TestSlotsUnwritable(t *testing.T) {
	public, _ := testKey()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, stateFile+".new"), 0o700))
	_, err := OpenSlots(dir, SlotConfig{Trust: public})
	require.ErrorContains(t, err, "device: the directory of the slots cannot be written")
	_, err = OpenSlots(filepath.Join(dir, "file", "slots"), SlotConfig{Trust: public})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "plain"), nil, 0o600))
	_, err = OpenSlots(filepath.Join(dir, "plain"), SlotConfig{Trust: public})
	require.ErrorContains(t, err, "device: the directory of the slots")
}

// TestNoCredentialsForHost downloads from a host for which there are no keys: the download fails at
// once, without further tries.
func TestNoCredentialsForHost(t *testing.T) {
	for _, uri := range []string{"coaps://192.0.2.1/fw", "coaps+tcp://192.0.2.1/fw"} {
		r := newRig(t)
		r.config.MinBackoff, r.config.MaxBackoff = time.Hour, time.Hour
		r.config.Credentials = ServerCredentials("coaps://lwm2m.example.com", lwm2m.FetchConfig{PSKIdentity: "a", PSK: []byte("secret")})
		require.NoError(t, r.start())
		require.NoError(t, r.write(resURI, lwm2m.String(uri)))
		r.wait(fsm.Idle, fsm.ResultInvalidURI)
	}
}
