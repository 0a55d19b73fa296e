package browsertest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browser is one Chromium for all tests, which have a profile each.
var browser struct {
	once sync.Once
	ctx  context.Context
	stop []context.CancelFunc
	err  error
}

// TestMain ends the browser.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range browser.stop {
		stop()
	}
	os.Exit(code)
}

// chromium returns the context of the browser. Without Chromium the test says so, and is left out;
// under CI that is a failure.
func chromium(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes long")
	}
	browser.once.Do(func() {
		path := ""
		for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
			if found, err := exec.LookPath(name); err == nil {
				path = found
				break
			}
		}
		if path == "" {
			browser.err = exec.ErrNotFound
			return
		}
		options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.Flag("disable-dev-shm-usage", true),
			chromedp.Flag("enable-precise-memory-info", true), chromedp.WSURLReadTimeout(limit))
		if os.Geteuid() == 0 {
			options = append(options, chromedp.NoSandbox) // which does not work for root
		}
		allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
		ctx, end := chromedp.NewContext(allocator)
		browser.ctx, browser.stop, browser.err = ctx, []context.CancelFunc{end, stop}, chromedp.Do(ctx)
	})
	if browser.err == exec.ErrNotFound {
		if os.Getenv("CI") == "true" {
			require.FailNow(t, "there is no Chromium: apt-get install --no-install-recommends chromium")
		}
		t.Skip("there is no Chromium: apt-get install --no-install-recommends chromium")
	}
	require.NoError(t, browser.err, "Chromium does not start")
	return browser.ctx
}

// tab is a page in the browser.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string

	started bool

	mu         sync.Mutex
	complaints []string // errors in the console, exceptions, violations of the policy
	awaited    []string // parts of complaints that the test means to cause
}

// open opens a tab at an address of the page, such as "#/rollouts". At the end of the test its
// console must have no error.
func (w *world) open(hash string) *tab {
	w.t.Helper()
	b := &tab{t: w.t, url: w.url}
	ctx, stop := chromedp.NewContext(chromium(w.t), chromedp.WithNewBrowserContext(), chromedp.WithListener(b.listen))
	b.ctx = ctx
	w.t.Cleanup(func() {
		if w.t.Failed() {
			w.t.Logf("the page at its end:\n%s", b.text())
			b.shot("failed-" + strings.ReplaceAll(w.t.Name(), "/", "-"))
		}
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.complaints) > 0 {
			w.t.Errorf("the browser complains:\n%s", strings.Join(b.complaints, "\n"))
		}
	})
	command(b, log.Enable, cdp.Empty{})
	command(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `document.addEventListener('securitypolicyviolation', (e) =>
			console.error('policy: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample))`,
	})
	b.wide(false)
	b.do(chromedp.Navigate(w.url + hash))
	return b
}

// await says that the test means to cause complaints with this text.
func (b *tab) await(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaited = append(b.awaited, text)
}

func (b *tab) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.awaited {
		if strings.Contains(text, a) {
			return
		}
	}
	b.complaints = append(b.complaints, text)
}

func (b *tab) listen(event any) {
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.complain("exception: " + text)
	case *runtime.EventConsoleAPICalled:
		if e.Type != runtime.ConsoleAPICalledTypeError && e.Type != runtime.ConsoleAPICalledTypeAssert {
			return
		}
		var text []string
		for _, arg := range e.Args {
			text = append(text, string(arg.Value)+arg.Description)
		}
		b.complain("console: " + strings.Join(text, " "))
	case *log.EventEntryAdded:
		// The API refuses what it must refuse; the browser calls that an error.
		refused := e.Entry.Source == log.EntrySourceNetwork && strings.Contains(e.Entry.URL, "/api/v1/") && strings.Contains(e.Entry.Text, "status of 4")
		if e.Entry.Level == log.EntryLevelError && !refused {
			b.complain(string(e.Entry.Source) + ": " + e.Entry.Text + " " + e.Entry.URL)
		}
	}
}

// run runs an action, which must not fail or take long.
func run[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 2*limit)
	defer cancel()
	if b.started { // the first call binds the life of the tab to its context
		value, err := chromedp.Run(ctx, action)
		require.NoError(b.t, err)
		return value
	}
	b.started = true
	value, err := chromedp.Run(b.ctx, action)
	require.NoError(b.t, err)
	return value
}

func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	for _, action := range actions {
		run(b, action)
	}
}

// command runs a command of the protocol.
func command[P, R any](b *tab, c cdp.Command[P, R], params P) R {
	b.t.Helper()
	return run(b, func(ctx context.Context, t *chromedp.Target) (R, error) { return cdp.Call(ctx, t, c, params) })
}

// wait waits until ok returns true.
func (b *tab) wait(ok func() bool, format string, args ...any) {
	b.t.Helper()
	for end := time.Now().Add(limit); !ok(); {
		if time.Now().After(end) {
			require.FailNow(b.t, fmt.Sprintf(format, args...))
		}
		<-time.After(20 * time.Millisecond)
	}
}

// wide makes the page as large as on a desk, light or dark.
func (b *tab) wide(dark bool) {
	b.t.Helper()
	b.size(1280, 800, false, dark)
}

// phone makes the page as small as on a small phone.
func (b *tab) phone(dark bool) {
	b.t.Helper()
	b.size(360, 740, true, dark)
}

func (b *tab) size(width, height int64, mobile, dark bool) {
	b.t.Helper()
	theme := "light"
	if dark {
		theme = "dark"
	}
	command(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: mobile,
	})
	command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: theme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
}

// eval evaluates an expression in the page; a promise is awaited.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return run(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// text is what a person sees of the page, with each white space as one.
func (b *tab) text() string {
	ctx, cancel := context.WithTimeout(b.ctx, limit)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body?.innerText ?? ''"))
	if err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(text), " ")
}
