//go:build unix

package soak_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/bundle"
)

// device is a client process and its test plan.
type device struct {
	name   string
	proc   *proc
	dir    string // its state
	random *rand.Rand
	ways   []map[string]any // requests for updates
	// fails is the expected outcome and result of its updates, if they do not succeed.
	fails [2]string
	// content makes a package.
	content func(version string, size int) []byte

	made    int // versions
	updates []update
}

// disk returns the version on the device's disk. decided is false while a version is on trial.
func (d *device) disk(t *testing.T) (version string, decided bool) {
	t.Helper()
	var state struct {
		Confirmed, Trial string
		Slots            map[string]struct{ Version string }
	}
	data, err := os.ReadFile(filepath.Join(d.dir, "slots.json"))
	if !errors.Is(err, os.ErrNotExist) {
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &state))
	}
	if state.Confirmed == "" {
		return factory, state.Trial == ""
	}
	return state.Slots[state.Confirmed].Version, state.Trial == ""
}

const factory = "1.0.0"

// round is one update of a device from request to verdict.
func (d *device) round(t *testing.T, o *operator) {
	before, _ := d.disk(t)
	d.made++
	version := fmt.Sprintf("1.%d.0", d.made)
	content := d.content(version, 1_000+d.random.IntN(600_000))
	junk := d.fails == [2]string{} && d.random.IntN(8) == 0
	if junk {
		content = bytes.Repeat([]byte{byte(d.made), 'x'}, 5_000)
	}
	request := map[string]any{"endpoint": d.name, "image": o.upload(t, d.name, version, content), "attempts": 100, "deadline": "20m"}
	for name, value := range d.ways[d.random.IntN(len(d.ways))] {
		request[name] = value
	}
	u, ok := o.start(t, d.name+version, request)
	require.True(t, ok, "%s has no active update", d.name)
	_, ok = o.start(t, d.name+version+"-again", map[string]any{"endpoint": d.name, "image": request["image"]})
	if ok { // the first update has ended
		require.NotEmpty(t, o.get(t, u.ID).Outcome)
	}
	cancelled := d.random.IntN(10) == 0
	if cancelled {
		pause(t.Context(), time.Duration(d.random.IntN(1500))*time.Millisecond)
		o.cancel(t, u.ID)
	}
	for _, u := range o.active(t, d.name, u) {
		u = d.end(t, o, u.ID)
		d.updates = append(d.updates, u)
		d.judge(t, u, before, junk, cancelled)
		before, _ = d.disk(t)
	}
}

// active returns u, and the update that began after u had ended.
func (o *operator) active(t *testing.T, endpoint string, u update) []update {
	t.Helper()
	list := []update{u}
	for _, other := range o.all(t, "&outcome=&endpoint="+endpoint) {
		if other.ID != u.ID {
			list = append(list, other)
		}
	}
	return list
}

// end waits until an update ends.
func (d *device) end(t *testing.T, o *operator, id string) (u update) {
	t.Helper()
	for limit := time.Now().Add(endWithin); ; pause(t.Context(), 100*time.Millisecond) {
		if u = o.get(t, id); u.Outcome != "" {
			return u
		}
		require.True(t, time.Now().Before(limit), "no end within %s: %s\n%s", endWithin, u.story(), d.proc.log.String())
	}
}

// endWithin limits an update, kills included.
const endWithin = 3 * time.Minute

// judge compares the server's report with the device's disk.
func (d *device) judge(t *testing.T, u update, before string, junk, cancelled bool) {
	t.Helper()
	now := before
	require.Eventually(t, func() bool {
		version, decided := d.disk(t)
		now = version
		return decided
	}, time.Minute, 50*time.Millisecond, "the trial of %s goes on: %s", d.name, u.story())
	say := func() string { return fmt.Sprintf("%s ran %s, runs %s: %s", d.name, before, now, u.story()) }
	switch {
	case u.Outcome == "cancelled":
		require.True(t, cancelled, say())
		require.Contains(t, []string{before, u.Version}, now, say())
		require.Equal(t, 10, u.Result.Code, say())
	case junk:
		require.Equal(t, []string{"failed", "unsup_fw", before}, []string{u.Outcome, u.Result.Name, now}, say())
	case d.fails != [2]string{}:
		// A device that is killed after it failed registers again, as one that was rolled back.
		require.Contains(t, []string{d.fails[0], "rolled_back"}, u.Outcome, say())
		require.Equal(t, []string{d.fails[1], before}, []string{u.Result.Name, now}, say())
	case now == u.Version:
		require.Equal(t, []string{"succeeded", "success"}, []string{u.Outcome, u.Result.Name}, say())
	default: // a version is given up after three interrupted starts
		require.Equal(t, []string{"rolled_back", "update_failed"}, []string{u.Outcome, u.Result.Name}, say())
		require.Equal(t, before, now, say())
	}
}

// signer makes bundles of the client's own program.
func signer(t *testing.T, dir, program string) (trust string, content func(string, int) []byte) {
	t.Helper()
	private, trust := filepath.Join(dir, "key.pem"), filepath.Join(dir, "key.pub")
	require.NoError(t, bundle.CreateKeyFiles(private, trust))
	key, err := bundle.ReadPrivateKey(private)
	require.NoError(t, err)
	code, err := os.ReadFile(program)
	require.NoError(t, err)
	return trust, func(version string, _ int) []byte {
		var b bytes.Buffer
		require.NoError(t, bundle.Sign(&b, key, bundle.Manifest{Name: "client", Version: version}, bytes.NewReader(code)))
		return b.Bytes()
	}
}

func demoImage(version string, size int) []byte { return demo.Image(version, size) }
