package firmware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store"
	"github.com/otago-iot/otago/store/memory"
)

// idleManager returns a manager that does not run.
func idleManager(t *testing.T, config ManagerConfig) *Manager {
	t.Helper()
	db := memory.New()
	images, err := OpenRepository(t.TempDir(), db, RepositoryConfig{})
	require.NoError(t, err)
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	require.NoError(t, err)
	m, err := NewManager(srv, db, images, config)
	require.NoError(t, err)
	return m
}

// servingManager returns a manager that does not run, with a delivery.
func servingManager(t *testing.T, config DeliveryConfig) *Manager {
	t.Helper()
	m := idleManager(t, ManagerConfig{})
	d, err := NewDelivery(m.images, config)
	require.NoError(t, err)
	m.delivery = d
	return m
}

// TestManagerDefaults: the defaults are those of the documentation.
func TestManagerDefaults(t *testing.T) {
	for given, want := range map[[2]int][2]int{{}: {1024, 16_384}, {1, 1}: {1, 1}} {
		m := idleManager(t, ManagerConfig{Parallel: given[0], Silent: given[1]})
		require.Equal(t, want, [2]int{m.config.Parallel, m.config.Silent})
		require.Equal(t, want, [2]int{m.places.free[laneRequest], m.places.maxQuiet})
		require.NotNil(t, m.log)
	}
	r, err := OpenRepository(t.TempDir(), memory.New(), RepositoryConfig{})
	require.NoError(t, err)
	require.NotNil(t, r.config.Logger)
	r.config.Logger = nil
	require.Equal(t, RepositoryConfig{MaxSize: 1 << 30}, r.config)
	d, err := NewDelivery(r, DeliveryConfig{})
	require.NoError(t, err)
	require.NotNil(t, d.config.Logger)
	d.config.Logger = nil
	require.Equal(t, DeliveryConfig{Stall: 2 * time.Minute, Prefix: "/fw/", PublicPrefix: "/media/firmware/"}, d.config)
	set := DeliveryConfig{BaseURL: "http://h/x", Stall: 1, Prefix: "/", PublicPrefix: "/p/", Logger: slog.Default()}
	d, err = NewDelivery(r, set)
	require.NoError(t, err)
	require.Equal(t, set, d.config)
}

// TestProtocols lists the protocols by which packages are served to a device: the cheapest for the
// device comes first.
func TestProtocols(t *testing.T) {
	all := []fsm.Protocol{
		fsm.ProtocolHTTPS, fsm.ProtocolHTTP, fsm.ProtocolCoAPSTCP, fsm.ProtocolCoAPTCP, fsm.ProtocolCoAPS, fsm.ProtocolCoAP,
	}
	mounted := func(string) bool { return true }
	base := func(_ lwm2m.Registration, p fsm.Protocol) string { return p.String() + "://fw.example.com/" }
	require.Equal(t, all, servingManager(t, DeliveryConfig{BaseURLs: base}).delivery.protocols(lwm2m.Registration{}, mounted))
	require.Equal(t, slices.DeleteFunc(slices.Clone(all), func(p fsm.Protocol) bool { return p == fsm.ProtocolHTTP || p == fsm.ProtocolCoAPS }),
		servingManager(t, DeliveryConfig{BaseURLs: func(r lwm2m.Registration, p fsm.Protocol) string {
			switch p {
			case fsm.ProtocolHTTP:
				return base(r, p) + strings.Repeat("x", 127)
			case fsm.ProtocolCoAPS:
				return ""
			}
			return base(r, p)
		}}).delivery.protocols(lwm2m.Registration{}, mounted))

	local := netip.MustParseAddrPort("192.0.2.1:5683")
	m := servingManager(t, DeliveryConfig{BaseURL: "https://fw.example.com/"})
	require.Equal(t, []fsm.Protocol{fsm.ProtocolHTTPS}, m.delivery.protocols(lwm2m.Registration{}, mounted))
	require.Equal(t, []fsm.Protocol{fsm.ProtocolHTTPS, fsm.ProtocolCoAP}, m.delivery.protocols(lwm2m.Registration{Transport: lwm2m.TransportUDP, Local: local}, mounted))
	require.Equal(t, "coap://192.0.2.1:5683/fw/", m.delivery.base(lwm2m.Registration{Transport: lwm2m.TransportUDP, Local: local}, fsm.ProtocolCoAP))
	require.Empty(t, m.delivery.base(lwm2m.Registration{Transport: lwm2m.TransportUDP, Local: local}, fsm.ProtocolCoAPS))
	require.Empty(t, m.delivery.base(lwm2m.Registration{Transport: lwm2m.TransportUDP}, fsm.ProtocolCoAP))
	require.Equal(t, "https://fw.example.com/", m.delivery.base(lwm2m.Registration{}, fsm.ProtocolHTTPS))
}

// TestTokensKept: an update remembers its last eight URIs, each once.
func TestTokensKept(t *testing.T) {
	m := servingManager(t, DeliveryConfig{BaseURL: "https://fw.example.com/"})
	u := Update{ID: "u", Endpoint: "ep", Image: "i"}
	var all []string
	for n := range 20 {
		before := slices.Clone(u.Tokens)
		uri := m.newURI(t.Context(), &u, fsm.Action{Protocol: fsm.ProtocolHTTPS})
		require.NoError(t, uri.err)
		require.Equal(t, "https://fw.example.com/[secret]", uri.shown)
		all = append(all, hashOf(strings.TrimPrefix(uri.text, "https://fw.example.com/")))
		require.Equal(t, all[max(0, n-7):], u.Tokens)
		require.NotEqual(t, before, u.Tokens)
	}
	uri := m.newURI(t.Context(), &u, fsm.Action{Protocol: fsm.ProtocolCoAP})
	require.ErrorIs(t, uri.err, errNotServed)
	require.Equal(t, all[12:], u.Tokens)
	require.Empty(t, withURI(nil, uri))
	require.Equal(t, "not by coap to this device", uri.err.Error())
	require.Equal(t, []fsm.Entry{{Event: "x"}, {Event: "package_uri", Detail: "b"}}, withURI([]fsm.Entry{{Event: "x"}}, packageURI{text: "a", shown: "b"}))
	require.Empty(t, withURI(nil, packageURI{}))
}

// TestFill: fill takes only the values that the read asked for, and bounds them.
func TestFill(t *testing.T) {
	const all = fsm.ReadState | fsm.ReadResult | fsm.ReadVersion | fsm.ReadProtocols | fsm.ReadDelivery | fsm.ReadMaxDefer | fsm.ReadAuto
	entry := func(path lwm2m.Path, v lwm2m.Value) []lwm2m.Entry { return []lwm2m.Entry{{Path: path, Value: v}} }
	for _, tc := range []struct {
		flag    fsm.Resources
		entries []lwm2m.Entry
		want    fsm.Reading
	}{
		{fsm.ReadState, entry(pathState, lwm2m.Integer(2)), fsm.Reading{State: fsm.Known(fsm.Downloaded)}},
		{fsm.ReadState, entry(pathState, lwm2m.Integer(math.MaxInt64)), fsm.Reading{State: fsm.Known(fsm.State(1 << 30))}},
		{fsm.ReadState, entry(pathState, lwm2m.Integer(math.MinInt64)), fsm.Reading{State: fsm.Known(fsm.State(-1 << 30))}},
		{fsm.ReadState, entry(pathState, lwm2m.String("x")), fsm.Reading{State: fsm.Known(fsm.State(-1))}},
		{fsm.ReadResult, entry(pathResult, lwm2m.Integer(1)), fsm.Reading{Result: fsm.Known(fsm.ResultSuccess)}},
		{fsm.ReadResult, entry(pathResult, lwm2m.Integer(math.MaxInt64)), fsm.Reading{Result: fsm.Known(fsm.Result(1 << 30))}},
		{fsm.ReadResult, entry(pathResult, lwm2m.Integer(math.MinInt64)), fsm.Reading{Result: fsm.Known(fsm.Result(-1 << 30))}},
		{fsm.ReadVersion, entry(pathVersion, lwm2m.String("1.0")), fsm.Reading{Version: fsm.Known("1.0")}},
		{fsm.ReadVersion, entry(pathVersion, lwm2m.String(strings.Repeat("x", 5000))), fsm.Reading{Version: fsm.Known(strings.Repeat("x", store.MaxText))}},
		{fsm.ReadVersion, entry(pathVersion, lwm2m.Integer(1)), fsm.Reading{Version: fsm.Known("\xff")}},
		{fsm.ReadProtocols, []lwm2m.Entry{
			{Path: lwm2m.NewPath(5, 0, 8, 0), Value: lwm2m.Integer(0)}, {Path: lwm2m.NewPath(5, 0, 8, 1), Value: lwm2m.Integer(99)},
			{Path: lwm2m.NewPath(5, 0, 8, 2), Value: lwm2m.Integer(3)},
		}, fsm.Reading{Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolCoAP, fsm.ProtocolHTTPS})}},
		{fsm.ReadDelivery, entry(pathDelivery, lwm2m.Integer(2)), fsm.Reading{Delivery: fsm.Known(fsm.PushAndPull)}},
		{fsm.ReadDelivery, entry(pathDelivery, lwm2m.Integer(math.MaxInt64)), fsm.Reading{Delivery: fsm.Known(fsm.DeliverySupport(1 << 30))}},
		{fsm.ReadDelivery, entry(pathDelivery, lwm2m.Integer(math.MinInt64)), fsm.Reading{Delivery: fsm.Known(fsm.DeliverySupport(-1 << 30))}},
		{fsm.ReadMaxDefer, entry(pathMaxDefer, lwm2m.Integer(60)), fsm.Reading{MaxDefer: fsm.Known(time.Minute)}},
		{fsm.ReadMaxDefer, entry(pathMaxDefer, lwm2m.Integer(-60)), fsm.Reading{MaxDefer: fsm.Known(time.Duration(0))}},
		{fsm.ReadMaxDefer, entry(pathMaxDefer, lwm2m.Integer(math.MaxInt64)), fsm.Reading{MaxDefer: fsm.Known(365 * 24 * time.Hour)}},
		{fsm.ReadAuto, entry(pathAuto, lwm2m.Boolean(true)), fsm.Reading{Auto: fsm.Known(true)}},
		{fsm.ReadAuto, entry(pathAuto, lwm2m.Boolean(false)), fsm.Reading{Auto: fsm.Known(false)}},
	} {
		var r fsm.Reading
		fill(&r, tc.entries, all)
		require.Equal(t, tc.want, r)
		r = fsm.Reading{}
		fill(&r, tc.entries, tc.flag)
		require.Equal(t, tc.want, r, "what was asked for")
		r = fsm.Reading{}
		fill(&r, tc.entries, all&^tc.flag)
		require.Equal(t, fsm.Reading{}, r, "what was not asked for")
	}
	for _, path := range []lwm2m.Path{pathResult, pathProtocols, pathDelivery, pathMaxDefer, pathAuto} {
		var r fsm.Reading
		fill(&r, entry(path, lwm2m.String("x")), all)
		require.Equal(t, fsm.Reading{}, r, "%s that is none is not reported", path)
	}
}

// TestRefuse: an answer that cannot be understood counts as an answer.
func TestRefuse(t *testing.T) {
	for _, res := range append(slices.Clone(resources), versionResource) {
		var r fsm.Reading
		refuse(&r, res, &lwm2m.ResponseError{Code: lwm2m.CodeMethodNotAllowed})
		require.Equal(t, fsm.CodeMethodNotAllowed, *res.code(&r))
		r = fsm.Reading{}
		refuse(&r, res, lwm2m.ErrMalformed)
		switch res.flag {
		case fsm.ReadState:
			require.Equal(t, fsm.Reading{State: fsm.Known(fsm.State(-1))}, r)
		case fsm.ReadVersion:
			require.Equal(t, fsm.Reading{Version: fsm.Known("\xff")}, r)
		default:
			require.Equal(t, fsm.CodeBadRequest, *res.code(&r))
		}
	}
	for err, want := range map[error]bool{
		&lwm2m.ResponseError{Code: lwm2m.CodeNotFound}: true, lwm2m.ErrMalformed: true, lwm2m.ErrUnsupportedFormat: true,
		lwm2m.ErrTimeout: false, lwm2m.ErrAsleep: false, ErrGivenUp: false,
	} {
		require.Equal(t, want, answered(err), "%v", err)
	}
	for err, want := range map[error]bool{lwm2m.ErrTimeout: true, errCrowded: true, lwm2m.ErrAsleep: false, ErrGivenUp: false} {
		require.Equal(t, want, unanswered(err), "%v", err)
	}
}

// TestVerdict tells the ends of requests apart: an answer of the device, no answer, and a fault of
// this server.
func TestVerdict(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want fsm.Observation
	}{
		{nil, fsm.Observation{Code: fsm.CodeChanged}},
		{&lwm2m.ResponseError{Code: lwm2m.CodeTooLarge, Diagnostic: "why", Limit: 512}, fsm.Observation{Code: fsm.Code(lwm2m.CodeTooLarge), Detail: "why", Limit: 512}},
		{&lwm2m.ResponseError{Code: lwm2m.CodeNotFound, Limit: -1}, fsm.Observation{Code: fsm.CodeNotFound}},
		{lwm2m.ErrTimeout, fsm.Observation{Detail: lwm2m.ErrTimeout.Error()}},
		{errImage, fsm.Observation{Detail: errImage.Error(), Fault: fsm.FaultImage}},
		{errNotServed, fsm.Observation{Detail: errNotServed.Error(), Fault: fsm.FaultURI}},
		{errTouched, fsm.Observation{Detail: errTouched.Error(), Fault: fsm.FaultNotSent}},
	} {
		got := fsm.Observation{Detail: "of before"}
		verdict(&got, tc.err)
		require.Equal(t, tc.want, got)
	}
}

// TestInboxKinds: of some kinds, a later observation replaces an earlier one, unless a caller waits
// for it. Of all other kinds each one stays.
func TestInboxKinds(t *testing.T) {
	merged := []fsm.ObservationKind{fsm.ObserveHint, fsm.ObserveTimer, fsm.ObserveProgress, fsm.ObserveConnectionFailed, fsm.ObserveObjectChanged}
	for kind := fsm.ObservationKind(1); kind <= fsm.ObservePackageFetched || kind <= fsm.ObserveRelease; kind++ {
		var b inbox
		answer := make(chan reply, 1)
		b.add(item{Observation: fsm.Observation{Kind: kind, Action: 1}, reply: answer})
		b.add(item{Observation: fsm.Observation{Kind: kind, Action: 2}})
		require.Len(t, b, 2, "%s: somebody waits for it", kind)
		b.add(item{Observation: fsm.Observation{Kind: kind, Action: 3}})
		if slices.Contains(merged, kind) {
			require.Len(t, b, 2, "%s", kind)
			require.EqualValues(t, 3, b[1].Action)
		} else {
			require.Len(t, b, 3, "%s", kind)
		}
		b.refuse()
		_, open := <-answer
		require.False(t, open, "the caller learns that nothing comes of it")
		require.Empty(t, b)
	}
	var b inbox
	for n := range 100 {
		b.add(item{Observation: fsm.Observation{Kind: fsm.ObserveDone, Action: uint32(n)}})
		require.Len(t, b, min(n+1, 32))
	}
	require.EqualValues(t, 99, b[31].Action)
	b.first(item{Observation: fsm.Observation{Kind: fsm.ObserveResumed}})
	require.Equal(t, fsm.ObserveResumed, b.next().Kind)
}

// TestInsist: the store is called again after 100 ms, 200 ms and so on up to 30 s, until it
// answers; each call may take 30 s.
func TestInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reported []error
		quiet := slog.New(slog.DiscardHandler)
		m := &Manager{log: quiet, hooks: newHookRunner(quiet), config: ManagerConfig{Hooks: Hooks{StoreFailed: func(_ context.Context, err error) { reported = append(reported, err) }}}}
		broken := errors.New("disk full")
		var pauses []time.Duration
		last := time.Now()
		err := m.untilStored(t.Context(), "u", func(ctx context.Context) error {
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 30*time.Second, time.Until(deadline))
			pauses = append(pauses, time.Since(last))
			if last = time.Now(); len(pauses) == 12 {
				return nil
			}
			return broken
		})
		require.NoError(t, err)
		want := []time.Duration{0}
		for pause := 100 * time.Millisecond; len(want) < 12; pause = min(2*pause, 30*time.Second) {
			want = append(want, pause)
		}
		require.Equal(t, want, pauses)
		synctest.Wait()
		require.Len(t, reported, 11)
		require.Equal(t, broken, reported[0])
		for _, answer := range []error{store.ErrConflict, store.ErrNotFound, store.ErrDamaged, store.ErrInvalid} {
			calls := 0
			require.ErrorIs(t, m.untilStored(t.Context(), "u", func(context.Context) error { calls++; return fmt.Errorf("x: %w", answer) }), answer)
			require.Equal(t, 1, calls)
		}
		require.Len(t, reported, 11)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, m.untilStored(ended, "u", func(context.Context) error { panic("called") }), context.Canceled)
	})
}

// TestConflictPauses: with each conflict the pause grows, from one second up to 128 s; after a
// quiet hour it starts again.
func TestConflictPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c conflicts
		for range 2 {
			for n := range 20 {
				most := 2 * time.Second << min(n, 6)
				pause := c.pause()
				require.GreaterOrEqual(t, pause, most/2)
				require.LessOrEqual(t, pause, most)
			}
			<-time.After(time.Hour)
			require.GreaterOrEqual(t, c.pause(), 64*time.Second, "an hour is not yet more than one")
			<-time.After(time.Hour + 1)
		}
	})
}

// An occupant says when it is granted a place, and when it is evicted.
type occupant struct {
	n                int
	started, evicted chan int
}

func (o occupant) granted() { o.started <- o.n }
func (o occupant) evict()   { o.evicted <- o.n }

// TestPlaces: doubtful actions have a quarter of the places; actions with silent devices take none.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlaces(8, 2)
		started, evicted := make(chan int, 100), make(chan int, 100)
		enter := func(l lane, doubt bool, n int) (*place, bool) {
			pl := &place{}
			return pl, p.enter(pl, l, doubt, occupant{n, started, evicted})
		}
		for n := range 2 {
			_, now := enter(laneRequest, true, n)
			require.True(t, now)
		}
		third, now := enter(laneRequest, true, 2)
		require.False(t, now, "a quarter is taken")
		var sure []*place
		for n := range 6 {
			pl, now := enter(laneRequest, false, 10+n)
			require.True(t, now)
			sure = append(sure, pl)
		}
		waiting, now := enter(laneRequest, false, 20)
		require.False(t, now)
		_, now = enter(laneTransfer, false, 30)
		require.True(t, now, "other lanes have places of their own")
		_, now = enter(laneInventory, false, 31)
		require.True(t, now)

		sure[0].silent()
		sure[0].silent()
		synctest.Wait()
		require.Equal(t, 20, <-started, "a silent device makes room")
		require.Empty(t, started)
		sure[1].silent()
		sure[2].silent()
		synctest.Wait()
		require.Equal(t, 10, <-evicted, "the one that is silent for longest gives way")
		require.Empty(t, evicted)
		require.Equal(t, 2, p.free[laneRequest])
		sure[1].heard()
		require.Equal(t, 1, p.free[laneRequest])
		sure[1].heard()
		require.Equal(t, 1, p.free[laneRequest])
		require.Equal(t, 1, p.quiet.Len())
		third.leave()
		third.leave()
		waiting.leave()
		require.Equal(t, 2, p.free[laneRequest])
		require.Zero(t, p.doubt[laneRequest].line.Len())
		sure[2].leave()
		require.Zero(t, p.quiet.Len())
		require.Equal(t, 2, p.free[laneRequest])
		require.Empty(t, started)
	})
}
