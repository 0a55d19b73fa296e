package main

import (
	"fmt"
	"strings"
)

// unified returns the difference of two texts in the unified format, as one hunk with three lines
// of context.
func unified(name, before, after string) string {
	a, b := splitLines(before), splitLines(after)
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	const around = 3
	from, rest := max(head-around, 0), min(tail, around)
	var out strings.Builder
	fmt.Fprintf(&out, "--- a/%s\n+++ b/%s\n@@ -%d,%d +%d,%d @@\n", name, name,
		from+1, len(a)-tail+rest-from, from+1, len(b)-tail+rest-from)
	write := func(mark string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(&out, "%s%s\n", mark, line)
		}
	}
	write(" ", a[from:head])
	write("-", a[head:len(a)-tail])
	write("+", b[head:len(b)-tail])
	write(" ", a[len(a)-tail:len(a)-tail+rest])
	return out.String()
}

func splitLines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

// excerpts cuts two long lines to the part around their first difference.
func excerpts(before, after string) (string, string) {
	const long = 100
	a, b := []rune(before), []rune(after)
	if len(a) <= long && len(b) <= long {
		return before, after
	}
	same := 0
	for same < len(a) && same < len(b) && a[same] == b[same] {
		same++
	}
	from, mark := same-long/2, "…"
	if from <= 0 {
		from, mark = 0, ""
	}
	return mark + shorten(string(a[from:]), long), mark + shorten(string(b[from:]), long)
}

// shorten cuts a text to n characters.
func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
