//go:build unix

package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/internal/pgtest"
	"github.com/otago-iot/otago/internal/testkit"
)

// setting reads a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

// house is a server, its devices and an operator.
type house struct {
	server  *proc
	data    string // the server's folder
	devices []*device
	op      *operator
	random  *rand.Rand
	// done is set when no new update may begin.
	done atomic.Bool
}

// freePorts returns ports that were free a moment ago, below those that systems assign themselves,
// so that no other socket takes them while the server is down.
func freePorts(t *testing.T, n int) (addresses []string) {
	t.Helper()
	for port := 10_000 + rand.IntN(20_000); len(addresses) < n; port++ {
		require.Less(t, port, 32_000, "no free ports")
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		tcp, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer tcp.Close()
		udp, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		defer udp.Close()
		addresses = append(addresses, address)
	}
	return addresses
}

// newHouse starts everything; with -store in the flags the records are elsewhere. Two situations
// take long: a push interrupted by a kill resumes after more than a minute, and a device that
// refuses to install is watched for a minute. Only a full house has them.
func newHouse(t *testing.T, seed uint64, full bool, flags ...string) *house {
	t.Helper()
	dir := t.TempDir()
	server, client := build(t, dir, "server"), build(t, dir, "client")
	ports := freePorts(t, 3)
	h := &house{
		data: filepath.Join(dir, "data"), op: &operator{base: "http://" + ports[1] + "/api/v1"}, random: rand.New(rand.NewPCG(seed, 0)),
	}
	h.server = &proc{path: server, log: cli.Tail{Size: logSize}, args: append([]string{
		"-data", h.data, "-coap", ports[0], "-http", ports[1], "-fw-http", ports[2], "-log-level", "debug",
		"-retain", "-1", // the end looks at every update
	}, flags...)}
	trust, bundles := signer(t, dir, client)
	pull := func(protocol string) map[string]any { return map[string]any{"delivery": "pull", "protocol": protocol} }
	push := map[string]any{"delivery": "push"}
	if !full {
		push = pull("auto")
	}
	for i, kind := range []struct {
		args    []string
		ways    []map[string]any
		fails   [2]string
		content func(string, int) []byte
	}{
		{ways: []map[string]any{pull("http")}},
		{ways: []map[string]any{push}},
		{ways: []map[string]any{pull("coap")}},
		{ways: []map[string]any{pull("http"), push, pull("coap")}, args: []string{"-lwm2m", "1.0"}},
		{ways: []map[string]any{pull("http"), push}, args: []string{"-fault", "refuse-install"}, fails: [2]string{"failed", "update_failed"}},
		{
			ways: []map[string]any{pull("http"), push}, args: []string{"-fault", "no-register-after-update", "-confirm-within", "500ms"},
			fails: [2]string{"rolled_back", "update_failed"},
		},
		{ways: []map[string]any{pull("http"), push}, args: []string{"-install", "exec", "-trust", trust}, content: bundles},
	} {
		if kind.fails[0] == "failed" && !full {
			continue
		}
		d := &device{
			name: fmt.Sprintf("device-%d", i), ways: kind.ways, fails: kind.fails, content: kind.content,
			random: rand.New(rand.NewPCG(seed, uint64(i+1))),
		}
		if d.content == nil {
			d.content = demoImage
		}
		state := filepath.Join(dir, "devices")
		d.dir = filepath.Join(state, d.name)
		d.proc = &proc{path: client, log: cli.Tail{Size: logSize}, args: append([]string{
			"-server", "coap://" + ports[0], "-endpoint", d.name, "-state", state, "-version", factory, "-log-level", "debug",
		}, kind.args...)}
		h.devices = append(h.devices, d)
	}
	for _, p := range h.processes() {
		p.start(t)
	}
	t.Cleanup(func() {
		for _, p := range h.processes() {
			p.kill()
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", h.server.log.String())
		}
	})
	return h
}

// processes lists the server, then the devices.
func (h *house) processes() []*proc {
	list := []*proc{h.server}
	for _, d := range h.devices {
		list = append(list, d.proc)
	}
	return list
}

// kills kills n times, random processes at random moments, and restarts them. Some are killed again
// while they start, and sometimes all are killed at once.
func (h *house) kills(t *testing.T, n int) {
	for n > 0 {
		pause(t.Context(), time.Duration(h.random.ExpFloat64()*float64(averagePause)))
		victims := []*proc{h.server}
		switch chance := h.random.IntN(20); {
		case chance == 0:
			victims = h.processes()
		case chance >= 7:
			victims[0] = h.devices[h.random.IntN(len(h.devices))].proc
		}
		down := time.Duration(h.random.IntN(500)) * time.Millisecond
		for again := true; again; again = h.random.IntN(4) == 0 {
			for _, p := range victims {
				p.kill()
			}
			n--
			pause(t.Context(), down)
			for _, p := range victims {
				p.start(t)
			}
			down = time.Duration(h.random.IntN(80)) * time.Millisecond
			pause(t.Context(), down)
		}
	}
}

// averagePause is about how long an update takes.
const averagePause = time.Second

// nurse checks that no process ends by itself.
func (h *house) nurse(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		for _, p := range h.processes() {
			if how := p.died(); how != "" {
				t.Errorf("%s ended by itself, %s:\n%s", p.path, how, p.log.String())
				return
			}
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// alone checks all the time that no endpoint has two active updates.
func (h *house) alone(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		var page struct{ Items []update }
		if _, err := h.op.once(ctx, "GET", "/updates?outcome=&limit=100", nil, nil, &page); err == nil {
			active := map[string]string{}
			for _, u := range page.Items {
				if other, ok := active[u.Endpoint]; ok {
					t.Errorf("%s has two active updates, %s and %s", u.Endpoint, other, u.ID)
				}
				active[u.Endpoint] = u.ID
			}
		}
		pause(ctx, 150*time.Millisecond)
	}
}

const fewKills = 6

func TestKillAtRandom(t *testing.T) {
	t.Parallel()
	killAtRandom(t, setting(t, "OTAGO_SOAK_KILLS", fewKills))
}

// TestKillOnPostgres does the same with a store in PostgreSQL. Each life of the server is the
// standby of the one before: it waits until the lease of that is over.
func TestKillOnPostgres(t *testing.T) {
	if testing.Short() || testkit.Race {
		t.Skip("each kill of a server takes the rest of its lease, up to 10 s")
	}
	t.Parallel()
	database := pgtest.Start(t, "fsync=off")
	killAtRandom(t, setting(t, "OTAGO_SOAK_POSTGRES_KILLS", 3), "-store", database.URL(), "-standby")
}

func killAtRandom(t *testing.T, kills int, flags ...string) {
	seed := setting(t, "OTAGO_SOAK_SEED", int(rand.Uint32()))
	t.Logf("%d kills, OTAGO_SOAK_SEED=%d", kills, seed)
	h := newHouse(t, uint64(seed), kills > fewKills && len(flags) == 0, flags...) // a full one is the same with each store

	ctx, stop := context.WithCancel(t.Context())
	watch := &watcher{ends: map[string]int{}}
	var guards, lanes sync.WaitGroup
	guards.Go(func() { watch.follow(ctx, h.op) })
	guards.Go(func() { h.alone(ctx, t) })
	guards.Go(func() { h.nurse(ctx, t) })
	defer guards.Wait()
	defer stop()

	for _, d := range h.devices {
		lanes.Go(func() {
			for d.round(t, h.op); !h.done.Load(); {
				d.round(t, h.op)
			}
		})
	}
	h.kills(t, kills)
	h.done.Store(true)
	lanes.Wait()
	if t.Failed() {
		return
	}
	h.inquest(t, watch)
}

// inquest checks everything once more, after a last kill of the server.
func (h *house) inquest(t *testing.T, watch *watcher) {
	h.server.kill()
	h.server.start(t)
	listed := map[string]update{}
	for _, u := range h.op.all(t, "") {
		listed[u.ID] = u
	}
	count, outcomes := 0, map[string]int{}
	var longest update
	for _, d := range h.devices {
		for _, u := range d.updates {
			count++
			outcomes[u.Outcome]++
			now := h.op.get(t, u.ID)
			require.Equal(t, u.Outcome, now.Outcome, now.story())
			require.Equal(t, u.Result, now.Result, now.story())
			require.Equal(t, u.Outcome, listed[u.ID].Outcome, now.story())
			require.Equal(t, []string{"idle", "ended"}, []string{now.State, now.Phase}, now.story())
			require.NotEqual(t, 0, now.Result.Code, now.story())
			require.NotNil(t, now.Ended, now.story())
			if longest.Ended == nil || now.took() > longest.took() {
				longest = now
			}
			ends := 0
			for _, line := range now.Journal {
				if line.Event == now.Outcome {
					ends++
				}
			}
			require.Equal(t, 1, ends, now.story())
			require.Eventually(t, func() bool { return watch.ended(u.ID) == 1 }, 20*time.Second, 50*time.Millisecond,
				"the stream of events told its end %d times: %s", watch.ended(u.ID), now.story())
		}
	}
	require.Len(t, listed, count, "as many updates as were asked for")
	require.Empty(t, watch.wrong)
	lives := 0
	for _, p := range h.processes() {
		lives += p.lives - 1
	}
	t.Logf("%d kills, %d updates: %v; the longest took %s: %s", lives, count, outcomes, longest.took(), longest.story())
	// No incomplete upload is left.
	left, err := filepath.Glob(filepath.Join(h.data, "images", "*tmp*"))
	require.NoError(t, err)
	require.Empty(t, left)
}
