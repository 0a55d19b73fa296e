package main

import (
	"fmt"
	"strings"
)

// unified returns the difference of two texts in the unified format, as one hunk with three lines around it.
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
