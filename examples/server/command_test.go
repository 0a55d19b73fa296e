package main

import (
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

func TestRefusedFlags(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"-coap", "0.0.0.0:5683"}, "-nosec"},
		{[]string{"-coap", ":5683"}, "-nosec"},
		{[]string{"-coap", "192.0.2.1:5683"}, "-nosec"},
		{[]string{"-http", ":8080"}, "-api-token-file"},
		{[]string{"-http", "example.com:8080"}, "-api-token-file"},
		{[]string{"-coaps", ":5684"}, "-psk"},
		{[]string{"-coap-tcp", ":5683"}, "-nosec"},
		{[]string{"-coaps-tcp", ":5684"}, "-client-ca"},
		{[]string{"-store", "postgres://localhost:port/ota"}, "-store"},
		{[]string{"-standby"}, "PostgreSQL"},
		{[]string{"-store", "mysql://localhost/ota"}, "neither"},
		{[]string{"-store", "bolt:"}, "neither"},
		{[]string{"-cert", "x"}, "belong together"},
		{[]string{"-fw-https", ":8443"}, "needs -cert"},
		{[]string{"-max-image", "0"}, "not a size"},
		{[]string{"-max-image", "1XB"}, "not a size"},
		{[]string{"-max-image", "9223372036854775807GiB"}, "not a size"},
		{[]string{"-advertise", "ftp://example.com"}, "not served by ftp"},
		{[]string{"-advertise", "example.com"}, "[SCHEME=]BASE"},
		{[]string{"-advertise", "https=http://example.com"}, "for http"},
		{[]string{"-advertise", "http://a,http://b"}, "twice"},
		{[]string{"-advertise", "http://user@example.com"}, "only scheme"},
		{[]string{"-log-level", "loud"}, "loud"},
		{[]string{"-unknown"}, "unknown"},
		{[]string{"-data", "x", "more"}, "unexpected argument"},
		{[]string{"serve"}, "unknown sub-command"},
		{[]string{"bundle"}, "keygen"},
		{[]string{"bundle", "sing"}, "keygen"},
		{[]string{"bundle", "sign", "x"}, "-version"},
		{[]string{"bundle", "sign", "-version=-1", "x"}, "begin with a digit"},
		{[]string{"bundle", "sign", "-version", "2..0", "x"}, "single dots"},
		{[]string{"bundle", "sign", "-version", "2", "-min-version", "1.", "x"}, "-min-version"},
		{[]string{"bundle", "sign", "-version", "2", "-name", "a/b", "x"}, "-out"},
		{[]string{"bundle", "verify", "-running", "v", "x"}, "-running"},
		{[]string{"export", "-format", "xml"}, "neither"},
	} {
		_, err := command(t, tt.args...)
		require.ErrorIs(t, err, cli.ErrUsage, "%q", tt.args)
		require.ErrorContains(t, err, tt.says, "%q", tt.args)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{
		{"-h"}, {"help"}, {"pki", "-h"}, {"export", "-h"},
		{"bundle", "-h"}, {"bundle", "keygen", "-h"}, {"bundle", "sign", "-h"}, {"bundle", "verify", "-h"},
	} {
		_, err := command(t, args...)
		require.ErrorIs(t, err, flag.ErrHelp, "%q", args)
	}
}

func TestMaxImage(t *testing.T) {
	for text, want := range map[string]size{"1000": 1000, "16KiB": 16 << 10, "3MiB": 3 << 20, "1GiB": 1 << 30, "1024GiB": 1 << 40} {
		var got size
		require.NoError(t, got.Set(text))
		require.Equal(t, want, got)
		var again size
		require.NoError(t, again.Set(got.String()))
		require.Equal(t, want, again)
	}
}

func TestAdvertisedBases(t *testing.T) {
	env := environment{func(string) (string, bool) { return "", false }, io.Discard, io.Discard}
	o, err := parseOptions([]string{"-advertise", "https://fw.example.com/x/, coap=192.0.2.1", "-advertise", "http://h:81/y"}, env)
	require.NoError(t, err)
	require.Len(t, o.advertise, 3)
	require.Equal(t, "https://fw.example.com/x/", o.advertise["https"])
	require.Equal(t, "coap://192.0.2.1/fw/", o.advertise["coap"])
	require.Equal(t, "http://h:81/y/", o.advertise["http"])
}

func TestBundleCommands(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	_, err := command(t, "bundle", "keygen", "-key", file("k"), "-pub", file("p"))
	require.NoError(t, err)
	_, err = command(t, "bundle", "keygen", "-key", file("k"), "-pub", file("p"))
	require.ErrorIs(t, err, os.ErrExist, "keys are never overwritten")

	require.NoError(t, os.WriteFile(file("image"), []byte("image"), 0o600))
	_, err = command(t, "bundle", "sign", "-key", file("k"), "-name", "sensor", "-version", "1.1.0", "-min-version", "1.0.0",
		"-out", file("b"), file("image"))
	require.NoError(t, err)
	out, err := command(t, "bundle", "verify", "-trust", file("p"), "-running", "1.0.0", file("b"))
	require.NoError(t, err)
	require.Contains(t, out, "version      1.1.0\n")
	require.Contains(t, out, "size         5\n")

	_, err = command(t, "bundle", "verify", "-trust", file("p"), "-running", "1.1.0", file("b"))
	require.Error(t, err, "it is not higher than what runs")
	data, err := os.ReadFile(file("b"))
	require.NoError(t, err)
	data[len(data)-1] ^= 1
	require.NoError(t, os.WriteFile(file("b"), data, 0o600))
	_, err = command(t, "bundle", "verify", "-trust", file("p"), file("b"))
	require.Error(t, err, "it was altered")

	require.NoError(t, os.WriteFile(file("empty"), nil, 0o600))
	for _, args := range [][]string{
		{"-version", "not a version", file("image")}, {"-version", "1", "-name", " ", file("image")}, {"-version", "1", file("empty")},
		{"-version", "1", "-min-version", "1.0", file("image")},
	} {
		_, err = command(t, append([]string{"bundle", "sign", "-key", file("k"), "-out", file("c")}, args...)...)
		require.Error(t, err, "%q", args)
	}
	left, err := filepath.Glob(file("c*"))
	require.NoError(t, err)
	require.Empty(t, left, "what could not be made leaves no file")
}

func TestPKICommand(t *testing.T) {
	dir := t.TempDir()
	out, err := command(t, "pki", "-dir", dir, "-device", "a,b")
	require.NoError(t, err)
	require.Contains(t, out, "ca.crt")
	require.Contains(t, out, "server.crt")
	require.FileExists(t, filepath.Join(dir, "device-b.key"))
	_, err = command(t, "pki", "-dir", dir, "-host", "other.example")
	require.ErrorIs(t, err, os.ErrExist)
	require.ErrorContains(t, err, "move it away")
	_, err = command(t, "pki", "-dir", dir, "-device", "c")
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "device-c.crt"))
}

// TestNamesLeadDevices checks that the server suggests a name from the certificate for package
// URIs, because some devices match only names.
func TestNamesLeadDevices(t *testing.T) {
	issue := func(hosts string) (dir, out string) {
		dir = t.TempDir()
		args := []string{"pki", "-dir", dir}
		if hosts != "" {
			args = append(args, "-host", hosts)
		}
		out, err := command(t, args...)
		require.NoError(t, err)
		return dir, out
	}
	for hosts, want := range map[string]string{
		"":                                  "-advertise https=",
		"192.0.2.1,fw.example.com":          "-advertise https=fw.example.com:8443",
		"localhost,127.0.0.1,a.example":     "-advertise https=a.example:8443",
		"localhost,127.0.0.1":               "-advertise https=localhost:8443",
		"192.0.2.1,::1":                     "give a name too, with -host",
		"*.example.com,192.0.2.1,b.example": "-advertise https=b.example:8443",
	} {
		_, out := issue(hosts)
		require.Contains(t, out, want, hosts)
	}
	for _, tt := range []struct{ hosts, advertised, says string }{
		{"fw.example.com,192.0.2.1", "", "flag=\"-advertise https=fw.example.com:8443\""},
		{"fw.example.com,192.0.2.1", "https://192.0.2.1:8443/fw/", "flag=\"-advertise https=fw.example.com:8443\""},
		{"fw.example.com", "https://fw.example.com/fw/", ""},
		{"*.example.com", "https://fw.example.com/fw/", ""},
		{"fw.example.com", "https://other.example.com/fw/", "devices will not trust"},
		{"192.0.2.1", "", "has no name"},
	} {
		dir, _ := issue(tt.hosts)
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"))
		require.NoError(t, err)
		var log bytes.Buffer
		advise(slog.New(slog.NewTextHandler(&log, nil)), "https://0.0.0.0:8443", tt.advertised, pair.Leaf)
		if tt.says == "" {
			require.Empty(t, log.String())
			continue
		}
		require.Contains(t, log.String(), tt.says, "%+v", tt)
	}
}

func TestExportOfNothing(t *testing.T) {
	_, err := command(t, "export", "-data", filepath.Join(t.TempDir(), "nothing"))
	require.ErrorContains(t, err, "there is no database")
	out, err := command(t, "export", "-store", "memory:")
	require.NoError(t, err)
	require.Contains(t, out, "id,endpoint,")
}

// TestExport exports a held update and a cancelled one. New columns come last, because programs
// read the others by position.
func TestExport(t *testing.T) {
	dir := t.TempDir()
	db, err := openStore(t.Context(), storePlace{data: dir}, nil)
	require.NoError(t, err)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	plan := fsm.Plan{Target: "1.1.0", Size: 1}
	held := fsm.NewUpdate(plan, now, fsm.Hold{Holder: "night shift"}, fsm.Hold{Holder: "@line 2"})
	cancelled, _ := fsm.NewUpdate(plan, now).Step(fsm.Observation{Kind: fsm.ObserveCancel, At: now})
	changes := []store.Change{store.CreateImage{Image: store.Image{ID: "i", Name: "demo", Version: "1.1.0", Created: now}}}
	for id, machine := range map[string]fsm.Update{"1": held, "2": cancelled} {
		changes = append(changes, store.CreateUpdate{Update: store.Update{
			ID: id, Endpoint: "dev-" + id, Image: "i", Machine: machine, Created: now, Changed: now,
		}})
	}
	_, err = db.Commit(t.Context(), changes...)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	out, err := command(t, "export", "-data", dir)
	require.NoError(t, err)
	require.Equal(t, `id,endpoint,image,name,old_version,version,state,result,reported_result,outcome,reason,attempt,created,ended,may_still,holders
1,dev-1,i,demo,,1.1.0,IDLE,DEFAULT,,,,0,2026-01-02T03:04:05Z,,,"night shift, @line 2"
2,dev-2,i,demo,,1.1.0,IDLE,CANCELLED,,cancelled,operator,0,2026-01-02T03:04:05Z,2026-01-02T03:04:05Z,none,
`, out)
	out, err = command(t, "export", "-data", dir, "-format", "jsonl")
	require.NoError(t, err)
	require.Contains(t, out, `"may_still":"","holders":["night shift","@line 2"]}`+"\n")
	require.Contains(t, out, `"may_still":"none","holders":[]}`+"\n")
	out, err = command(t, "export", "-data", dir, "-format", "table")
	require.NoError(t, err)
	require.Equal(t, `id,endpoint,firmware,state,result,timestamp_created,timestamp_updated
1,dev-1,1.1.0,STATE_IDLE,RESULT_DEFAULT,2026-01-02T03:04:05Z,2026-01-02T03:04:05Z
2,dev-2,1.1.0,STATE_IDLE,RESULT_CANCELLED,2026-01-02T03:04:05Z,2026-01-02T03:04:05Z
`, out)
}

// TestUpdateTable has an update in each State, and with each Result.
func TestUpdateTable(t *testing.T) {
	states := []string{"STATE_IDLE", "STATE_DOWNLOADING", "STATE_DOWNLOADED", "STATE_UPDATING"}
	results := []string{
		"RESULT_DEFAULT", "RESULT_SUCCESS", "RESULT_NO_STORAGE", "RESULT_OUT_OF_MEM", "RESULT_CONNECTION_LOST", "RESULT_INTEGRITY_FAILED",
		"RESULT_UNSUP_FW", "RESULT_INVALID_URI", "RESULT_UPDATE_FAILED", "RESULT_UNSUP_PROTO", "RESULT_CANCELLED",
	}
	db := memory.New()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	changes := []store.Change{store.CreateImage{Image: store.Image{ID: "i", Name: "demo", Version: "1.1.0", Created: now}}}
	var want strings.Builder
	want.WriteString("id,endpoint,firmware,state,result,timestamp_created,timestamp_updated\n")
	add := func(n, state, result int) {
		machine := fsm.NewUpdate(fsm.Plan{Target: "1.1.0", Size: 1}, now)
		machine.State, machine.Result = fsm.State(state), fsm.Result(result)
		if machine.Result != fsm.ResultDefault {
			machine.Phase, machine.Outcome = fsm.PhaseEnded, fsm.OutcomeFailed
		}
		created := now.Add(time.Duration(n) * time.Second)
		changes = append(changes, store.CreateUpdate{Update: store.Update{
			ID: strconv.Itoa(100 + n), Endpoint: "dev-" + strconv.Itoa(n), Image: "i", Machine: machine, Created: created, Changed: created.Add(time.Hour),
		}})
		fmt.Fprintf(&want, "%d,dev-%d,1.1.0,%s,%s,%s,%s\n", 100+n, n, states[state], results[result],
			created.Format(time.RFC3339), created.Add(time.Hour).Format(time.RFC3339))
	}
	for state := range states {
		add(state, state, 0)
	}
	for result := 1; result < len(results); result++ {
		add(len(states)+result, 0, result)
	}
	_, err := db.Commit(t.Context(), changes...)
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, writeTable(&out, &exporter{ctx: t.Context(), db: db, images: map[string]store.Image{}}))
	require.Equal(t, want.String(), out.String())
}

func TestFormulasAreHarmless(t *testing.T) {
	require.Equal(t, []string{"'=1+1", "'+1", "'-1", "'@x", "a=b", ""}, harmless([]string{"=1+1", "+1", "-1", "@x", "a=b", ""}))
}
