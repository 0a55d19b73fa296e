package fsm_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/fsm"
)

// TestPlanBounds: values at a bound are valid, values past it are not.
func TestPlanBounds(t *testing.T) {
	const hex = "0123456789abcdef"
	long := strings.Repeat("v", 255)
	good := fsm.Plan{Target: newVersion}
	require.NoError(t, good.Check())
	for name, tt := range map[string]struct {
		set func(p *fsm.Plan)
		ok  bool
	}{
		"no target":            {func(p *fsm.Plan) { p.Target = "" }, false},
		"target of one byte":   {func(p *fsm.Plan) { p.Target = "1" }, true},
		"long target":          {func(p *fsm.Plan) { p.Target = long }, true},
		"longer target":        {func(p *fsm.Plan) { p.Target = long + "v" }, false},
		"target of control":    {func(p *fsm.Plan) { p.Target = "1\x00" }, false},
		"size 0":               {func(p *fsm.Plan) { p.Size = 0 }, true},
		"negative size":        {func(p *fsm.Plan) { p.Size = -1 }, false},
		"digest":               {func(p *fsm.Plan) { p.Digest = strings.Repeat(hex, 4) }, true},
		"short digest":         {func(p *fsm.Plan) { p.Digest = strings.Repeat(hex, 4)[1:] }, false},
		"long digest":          {func(p *fsm.Plan) { p.Digest = strings.Repeat(hex, 4) + "0" }, false},
		"digest of capitals":   {func(p *fsm.Plan) { p.Digest = strings.Repeat(strings.ToUpper(hex), 4) }, false},
		"long component":       {func(p *fsm.Plan) { p.Component = long }, true},
		"longer component":     {func(p *fsm.Plan) { p.Component = long + "v" }, false},
		"component of control": {func(p *fsm.Plan) { p.Component = "\n" }, false},
		"attempts 0":           {func(p *fsm.Plan) { p.Attempts = 0 }, true},
		"negative attempts":    {func(p *fsm.Plan) { p.Attempts = -1 }, false},
		"unknown delivery":     {func(p *fsm.Plan) { p.Delivery = "x" }, false},
		"unknown protocol":     {func(p *fsm.Plan) { p.Protocol = "x" }, false},
		"unknown verify":       {func(p *fsm.Plan) { p.Verify = "x" }, false},
		"long name":            {func(p *fsm.Plan) { p.Profile.Name = long }, true},
		"longer name":          {func(p *fsm.Plan) { p.Profile.Name = long + "v" }, false},
		"name of control":      {func(p *fsm.Plan) { p.Profile.Name = "\t" }, false},
		"reset by NUL":         {func(p *fsm.Plan) { p.Profile.Reset = fsm.ResetNUL }, true},
		"no reset":             {func(p *fsm.Plan) { p.Profile.Reset = fsm.ResetNone }, true},
		"unknown reset":        {func(p *fsm.Plan) { p.Profile.Reset = "x" }, false},
		"profile's delivery":   {func(p *fsm.Plan) { p.Profile.Delivery = "x" }, false},
		"first protocol":       {func(p *fsm.Plan) { p.Profile.Protocols = []fsm.Protocol{fsm.ProtocolCoAP} }, true},
		"no protocol":          {func(p *fsm.Plan) { p.Profile.Protocols = []fsm.Protocol{fsm.ProtocolAuto} }, false},
		"as many as there are": {func(p *fsm.Plan) { p.Profile.Protocols = all(6) }, true},
		"block of 16":          {func(p *fsm.Plan) { p.Profile.BlockSize = 16 }, true},
		"block of 8":           {func(p *fsm.Plan) { p.Profile.BlockSize = 8 }, false},
		"block of 100":         {func(p *fsm.Plan) { p.Profile.BlockSize = 100 }, false},
		"block of 1024":        {func(p *fsm.Plan) { p.Profile.BlockSize = 1024 }, true},
		"block of 1025":        {func(p *fsm.Plan) { p.Profile.BlockSize = 1025 }, false},
		"block of 3 KiB":       {func(p *fsm.Plan) { p.Profile.BlockSize = 3 << 10 }, true},
		"block of 16 KiB":      {func(p *fsm.Plan) { p.Profile.BlockSize = 16 << 10 }, true},
		"block of 17 KiB":      {func(p *fsm.Plan) { p.Profile.BlockSize = 17 << 10 }, false},
		"negative block":       {func(p *fsm.Plan) { p.Profile.BlockSize = -1024 }, false},
		"more than there are":  {func(p *fsm.Plan) { p.Profile.Protocols = append(all(6), fsm.ProtocolCoAP) }, false},
	} {
		p := good
		tt.set(&p)
		require.Equal(t, tt.ok, p.Check() == nil, "%s: %v", name, p.Check())
	}
	for name, field := range map[string]func(p *fsm.Plan) *time.Duration{
		"deadline":     func(p *fsm.Plan) *time.Duration { return &p.Deadline },
		"grace":        func(p *fsm.Plan) *time.Duration { return &p.Profile.WriteGrace },
		"waiting":      func(p *fsm.Plan) *time.Duration { return &p.Limits.Waiting },
		"preparing":    func(p *fsm.Plan) *time.Duration { return &p.Limits.Preparing },
		"transferring": func(p *fsm.Plan) *time.Duration { return &p.Limits.Transferring },
		"transferred":  func(p *fsm.Plan) *time.Duration { return &p.Limits.Transferred },
		"executing":    func(p *fsm.Plan) *time.Duration { return &p.Limits.Executing },
		"restarting":   func(p *fsm.Plan) *time.Duration { return &p.Limits.Restarting },
		"verifying":    func(p *fsm.Plan) *time.Duration { return &p.Limits.Verifying },
		"settle":       func(p *fsm.Plan) *time.Duration { return &p.Limits.Settle },
		"retry":        func(p *fsm.Plan) *time.Duration { return &p.Limits.Retry },
		"poll":         func(p *fsm.Plan) *time.Duration { return &p.Limits.Poll },
		"defer":        func(p *fsm.Plan) *time.Duration { return &p.Limits.Defer },
	} {
		const year = 365 * 24 * time.Hour
		for value, ok := range map[time.Duration]bool{0: true, 1: true, year: true, -1: false, year + 1: false} {
			p := good
			*field(&p) = value
			require.Equal(t, ok, p.Check() == nil, "%s of %s", name, value)
			if value > 0 && ok {
				u := fsm.NewUpdate(p, epoch)
				require.Equal(t, value, *field(&u.Plan), "what is given is kept: %s", name)
			}
		}
	}
	u := fsm.NewUpdate(fsm.Plan{Target: newVersion, Attempts: 1}, epoch)
	require.Equal(t, 1, u.Plan.Attempts)
	require.Equal(t, 24*time.Hour, fsm.NewUpdate(good, epoch).Plan.Deadline)
	require.Equal(t, 5, fsm.NewUpdate(good, epoch).Plan.Attempts)
}

// all returns the first n protocols of resource 5/0/8.
func all(n int) []fsm.Protocol {
	var list []fsm.Protocol
	for i := range n {
		p, _ := fsm.ProtocolNumber(int64(i))
		list = append(list, p)
	}
	return list
}

// TestHoldBounds: a hold's texts and times have bounds, and an update has a limited number of
// holds.
func TestHoldBounds(t *testing.T) {
	year := func(n int) time.Time { return time.Date(n, 12, 31, 23, 59, 59, 0, time.UTC) }
	for name, tt := range map[string]struct {
		hold fsm.Hold
		ok   bool
	}{
		"one byte":       {fsm.Hold{Holder: "x"}, true},
		"no name":        {fsm.Hold{}, false},
		"long name":      {fsm.Hold{Holder: strings.Repeat("x", 64)}, true},
		"longer name":    {fsm.Hold{Holder: strings.Repeat("x", 65)}, false},
		"long reason":    {fsm.Hold{Holder: "x", Reason: strings.Repeat("x", 255)}, true},
		"longer reason":  {fsm.Hold{Holder: "x", Reason: strings.Repeat("x", 256)}, false},
		"control":        {fsm.Hold{Holder: "x\n"}, false},
		"control reason": {fsm.Hold{Holder: "x", Reason: "\x00"}, false},
		"no UTF-8":       {fsm.Hold{Holder: "\xff"}, false},
		"first year":     {fsm.Hold{Holder: "x", Until: year(1)}, true},
		"before it":      {fsm.Hold{Holder: "x", Until: year(0)}, false},
		"last year":      {fsm.Hold{Holder: "x", Until: year(9999)}, true},
		"year after it":  {fsm.Hold{Holder: "x", Until: year(10000)}, false},
	} {
		require.Equal(t, tt.ok, tt.hold.Check() == nil, "%s: %v", name, tt.hold.Check())
	}
	require.Equal(t, "x holds the update", fsm.Hold{Holder: "x"}.Text())
	require.Equal(t, "x holds the update: y, until 2026-01-02T03:04:05Z", fsm.Hold{Holder: "x", Reason: "y", Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}.Text())

	// A renewed hold keeps its beginning, and times keep their fractions of a second.
	h := started(fsm.Plan{Target: newVersion})
	began := h.now
	end := began.Add(time.Hour + time.Nanosecond)
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "x", Until: end}})
	h.now = h.now.Add(time.Minute)
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "x", Reason: "again", Until: end.In(time.FixedZone("", 3600))}})
	require.Equal(t, []fsm.Hold{{Holder: "x", Reason: "again", Since: began, Until: end}}, h.update.Holds)
	// The first of several holds that ends wakes the update.
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "y"}})
	h.step(fsm.Observation{Kind: fsm.ObserveHold, Hold: fsm.Hold{Holder: "z", Until: h.now.Add(time.Second)}})
	require.Equal(t, h.now.Add(time.Second), h.update.Wake())
}

// TestNumbers: numbers are known to the registry or not, and each kind has its name.
func TestNumbers(t *testing.T) {
	for n := -2; n < 20; n++ {
		require.Equal(t, n >= 0 && n <= 3, fsm.State(n).Known(), "state %d", n)
		require.Equal(t, n == 1 || n == 2, fsm.DeliverySupport(n).Allows(fsm.DeliveryPush), "method %d", n)
		require.Equal(t, n == 0 || n == 2, fsm.DeliverySupport(n).Allows(fsm.DeliveryPull), "method %d", n)
		require.False(t, fsm.DeliverySupport(n).Allows(fsm.DeliveryAuto))
	}
	for _, version := range []fsm.ObjectVersion{0, fsm.Object10, fsm.Object11, fsm.Object12} {
		require.Equal(t, fsm.Object{Version: version, Method: fsm.PushOnly, Severity: 1}, fsm.NewObject(version, fsm.PushOnly))
	}
	for _, n := range []int64{-1, 6} {
		p, _ := fsm.ProtocolNumber(n)
		require.Equal(t, fsm.ProtocolAuto, p)
	}
	for p, want := range map[fsm.Protocol]string{fsm.ProtocolAuto: "auto", fsm.ProtocolCoAP: "coap", fsm.ProtocolCoAPSTCP: "coaps+tcp"} {
		require.Equal(t, want, p.String())
	}
	for code, want := range map[fsm.Code]string{
		fsm.CodeNone: "no answer", fsm.CodeChanged: "2.04", fsm.CodeContent: "2.05", fsm.CodeContinue: "2.31", fsm.CodeBadRequest: "4.00",
		fsm.CodeNotFound: "4.04", fsm.CodeMethodNotAllowed: "4.05", fsm.CodeTooLarge: "4.13", fsm.CodeUnsupportedFormat: "4.15",
		fsm.CodeInternalError: "5.00", fsm.CodeNotImplemented: "5.01", fsm.CodeServiceUnavailable: "5.03", 0x3f: "1.31", 0x60: "3.00",
	} {
		require.Equal(t, want, code.String())
		require.Equal(t, want[0] == '2', code.OK(), want)
	}
	names := map[string]bool{}
	for n := range 256 {
		if name := fsm.ObservationKind(n).String(); name != "unknown observation" {
			require.False(t, names[name] || name == "", "%s is the name of one", name)
			names[name] = true
		}
	}
	require.Len(t, names, int(fsm.ObserveCancel), "all that there are, and no more")
	require.Equal(t, "started", fsm.ObserveStarted.String())
}

// TestEmptyNames: an empty text means that the machine chooses, and replaces an earlier value.
func TestEmptyNames(t *testing.T) {
	for _, text := range []string{"", "auto"} {
		d, p := fsm.DeliveryPush, fsm.ProtocolHTTP
		require.NoError(t, d.UnmarshalText([]byte(text)))
		require.NoError(t, p.UnmarshalText([]byte(text)))
		require.Equal(t, fsm.DeliveryAuto, d)
		require.Equal(t, fsm.ProtocolAuto, p)
	}
}

// TestForm: an update of another form is refused, not misread.
func TestForm(t *testing.T) {
	h := transferring(fsm.Plan{Target: newVersion})
	data, err := h.update.Memory.AppendBinary(nil)
	require.NoError(t, err)
	require.EqualValues(t, 4, data[0])
	m := fsm.Update{}.Memory
	require.NoError(t, m.UnmarshalBinary(data))
	require.Equal(t, h.update.Memory, m)
	for _, form := range []byte{0, 1, 3, 5, '{'} {
		other := append([]byte{form}, data[1:]...)
		require.ErrorContains(t, m.UnmarshalBinary(other), fmt.Sprintf("has form %d", form))
	}
	require.Error(t, m.UnmarshalBinary(nil))
	for n := 1; n < len(data); n++ {
		_ = m.UnmarshalBinary(data[:n]) // no panic
	}
}

// TestLongTexts: texts of the device without a bound of their own are cut.
func TestLongTexts(t *testing.T) {
	read := func(version string) string {
		h := started(fsm.Plan{Target: newVersion})
		h.reads(picture{fsm.Idle, 0, version, false})
		return h.update.Version
	}
	require.Equal(t, strings.Repeat("1", 255), read(strings.Repeat("1", 255)))
	require.Equal(t, `"`+strings.Repeat("1", 32)+`"`, read(strings.Repeat("1", 256)), "no version any more")
	require.Equal(t, `"1\a"`, read("1\a"))

	trouble := func(detail string) string {
		h := transferring(fsm.Plan{Target: newVersion})
		h.step(fsm.Observation{Kind: fsm.ObserveConnectionFailed, Detail: detail})
		return h.journal()
	}
	require.Equal(t, "connection_failed: "+strings.Repeat("x", 255)+"\n", trouble(strings.Repeat("x", 300)))
	require.Equal(t, "connection_failed: xy\n", trouble("x\xffy"))

	// Any host at the device's address can make connections fail: the journal has a bounded number
	// of lines.
	h := transferring(fsm.Plan{Target: newVersion})
	lines := 0
	for i := range 10 {
		h.step(fsm.Observation{Kind: fsm.ObserveConnectionFailed, Detail: strings.Repeat("x", i+1)})
		lines += len(h.actions.Journal)
	}
	require.Equal(t, 4, lines)
}
