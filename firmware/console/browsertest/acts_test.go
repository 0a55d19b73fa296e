package browsertest

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// axe is axe-core, which finds what people with a screen reader, or with weak eyes, cannot use. The
// file is that of the package axe-core of npm, under the Mozilla Public License 2.0, which is
// beside it. It is here so that the tests need no network; no program contains it.
//
//go:embed testdata/axe.min.js
var axe string

// see waits until the page shows a text.
func (b *tab) see(text string) {
	b.t.Helper()
	b.wait(func() bool { return strings.Contains(b.text(), text) }, "the page does not show %q", text)
}

// gone waits until the page shows a text no more.
func (b *tab) gone(text string) {
	b.t.Helper()
	b.wait(func() bool { return !strings.Contains(b.text(), text) }, "the page still shows %q", text)
}

// until waits until an expression is true in the page.
func (b *tab) until(expression string) {
	b.t.Helper()
	b.wait(func() bool { return eval[bool](b, "!!("+expression+")") }, "%s", expression)
}

// click clicks the first thing that can be clicked whose text begins with text, and that can be
// seen.
func (b *tab) click(text string) {
	b.t.Helper()
	b.clickAt(fmt.Sprintf(`[...document.querySelectorAll('button, a, summary, [role=option], label')].filter((e) =>
		e.checkVisibility() && !e.disabled && e.textContent.trim().replace(/\s+/g, ' ').startsWith(%s))`, strconv.Quote(text)), text)
}

// clickAt clicks the first element of an expression, where nothing covers it. It finds and clicks
// the element in one task of the page: a change that comes between the two would move it away from
// the mouse.
func (b *tab) clickAt(elements, what string) {
	b.t.Helper()
	b.wait(func() bool {
		return eval[bool](b, `(() => {
			const e = (`+elements+`)[0]
			if (!e) return false
			e.scrollIntoView({ block: 'center', behavior: 'instant' })
			const box = e.getClientRects()[0]
			const top = document.elementFromPoint(box.x + Math.min(box.width / 2, 200), box.y + box.height / 2)
			if (!top || !e.contains(top) && !top.contains(e)) return false
			if (!e.matches('[role=option]')) (e.control ?? e).focus({ preventScroll: true }) // as a mouse does
			e.click()
			return true
		})()`)
	}, "there is no %q to click", what)
}

// field is the expression of the form field of a label.
func field(label string) string {
	return fmt.Sprintf(`[...document.querySelectorAll('label')].find((l) => l.checkVisibility() && l.textContent.trim().startsWith(%s))?.control`, strconv.Quote(label))
}

// fill replaces what a field has, as a person who types does.
func (b *tab) fill(label, value string) {
	b.t.Helper()
	b.until(field(label))
	eval[chromedp.Void](b, `(() => { const f = `+field(label)+`; f.scrollIntoView({ block: 'center' }); f.focus(); f.select?.() })()`)
	if value == "" {
		b.key("Delete")
	} else {
		b.typed(value)
	}
}

// typed types a text where the focus is.
func (b *tab) typed(text string) {
	b.t.Helper()
	command(b, input.InsertText, input.InsertTextParams{Text: text})
}

// choose chooses an option of a select by a part of its text.
func (b *tab) choose(label, option string) {
	b.t.Helper()
	b.until(fmt.Sprintf(`[...(%s)?.options ?? []].some((o) => o.text.includes(%s))`, field(label), strconv.Quote(option)))
	eval[chromedp.Void](b, fmt.Sprintf(`(() => { const s = %s; s.value = [...s.options].find((o) => o.text.includes(%s)).value;
		for (const type of ['input', 'change']) s.dispatchEvent(new Event(type, { bubbles: true })) })()`, field(label), strconv.Quote(option)))
}

// key presses a key by its name, such as Enter, Tab or j.
func (b *tab) key(name string) {
	b.t.Helper()
	down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: name, Code: name}
	switch name {
	case "Enter":
		down.Text, down.WindowsVirtualKeyCode = "\r", 13
	case "Tab":
		down.WindowsVirtualKeyCode = 9
	case "Escape":
		down.WindowsVirtualKeyCode = 27
	case "Delete":
		down.WindowsVirtualKeyCode = 46
	case "ArrowDown":
		down.WindowsVirtualKeyCode = 40
	default:
		down.Text = name
	}
	up := down
	up.Type, up.Text = input.DispatchKeyEventTypeKeyUp, ""
	command(b, input.DispatchKeyEvent, down)
	command(b, input.DispatchKeyEvent, up)
}

// focused is the text of the element that has the focus.
func (b *tab) focused() string {
	b.t.Helper()
	return strings.TrimSpace(eval[string](b, `(document.activeElement?.textContent || document.activeElement?.id || '')`))
}

// tabTo presses Tab until the element with a text has the focus.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	for range 120 {
		if strings.HasPrefix(b.focused(), text) {
			return
		}
		b.key("Tab")
	}
	require.FailNow(b.t, "Tab does not lead to "+text)
}

// look looks at the view in both themes, on a desk and on a phone: it must fit, have no serious
// finding of axe, and is photographed into the folder that OTAGO_SCREENSHOTS names.
func (b *tab) look(name string) {
	b.t.Helper()
	for _, mode := range []struct {
		name  string
		show  func(dark bool)
		dark  bool
		rules string // that may have another answer than before
	}{
		{"light", b.wide, false, all}, {"dark", b.wide, true, contrast}, {"phone-light", b.phone, false, all}, {"phone-dark", b.phone, true, ""},
	} {
		mode.show(mode.dark)
		out := eval[string](b, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
			const wide = document.documentElement.clientWidth
			if (document.documentElement.scrollWidth <= wide) return done('')
			done([...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > wide + 1)
				.map((e) => e.outerHTML.slice(0, 120)).slice(0, 5).join('\n') || 'something is too wide')
		})))`)
		require.Empty(b.t, out, "%s does not fit: %s", name, mode.name)
		if mode.rules != "" {
			b.find(mode.rules, name+", "+mode.name)
		}
		b.shot(name + "-" + mode.name)
	}
	b.wide(false)
}

// shot photographs the whole page.
func (b *tab) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("OTAGO_SCREENSHOTS")
	if dir == "" {
		return
	}
	eval[chromedp.Void](b, "window.scrollTo(0, 0)")
	data := run(b, chromedp.FullScreenshot(100))
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644))
}

// The rules of axe.
const (
	all      = "{}"
	contrast = "{ runOnly: ['color-contrast'] }"
)

// accessible requires that axe finds nothing serious.
func (b *tab) accessible(what string) {
	b.t.Helper()
	b.find(all, what)
}

func (b *tab) find(rules, what string) {
	b.t.Helper()
	if !eval[bool](b, "!!window.axe") {
		eval[chromedp.Void](b, axe)
	}
	found := eval[string](b, `axe.run({ resultTypes: ['violations'], ...`+rules+` }).then((r) => JSON.stringify(r.violations.filter((v) => ['serious', 'critical'].includes(v.impact))
		.map((v) => [v.id, v.help, ...v.nodes.slice(0, 3).map((n) => n.html + ' ' + n.failureSummary)])))`)
	var list [][]string
	require.NoError(b.t, json.Unmarshal([]byte(found), &list))
	require.Empty(b.t, list, "axe finds in %s", what)
}

// back and reload are what the browser's own buttons do.
var (
	back   = chromedp.NavigateBack()
	reload = chromedp.Reload()
)
