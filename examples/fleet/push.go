package main

import (
	"github.com/otago-iot/otago/firmware/fsm"
)

// push handles a block of a package (RFC 7959, Block1). An empty body or a single NUL byte resets.
func (d *device) push(m *message) answer {
	number, more, exponent := 0, false, 6
	if m.block1 != absent {
		number, more, exponent = m.block1>>4, m.block1&8 != 0, m.block1&7
	}
	switch {
	case exponent == 7:
		return code(codeBadRequest)
	case number == 0 && !more && (len(m.payload) == 0 || len(m.payload) == 1 && m.payload[0] == 0):
		return d.reset()
	case number == 0:
		if d.state != fsm.Idle && d.intake == nil {
			return code(codeBadRequest)
		}
		d.intake = newIntake()
		d.set(fsm.Downloading, fsm.ResultDefault)
	case d.intake == nil || d.intake.size != number<<(exponent+4):
		return code(codeIncomplete)
	}
	_, _ = d.intake.Write(m.payload) // never fails
	a := code(codeChanged)
	a.block1 = m.block1
	if more {
		a.code = codeContinue
		return a
	}
	d.taken(d.intake, fsm.ResultDefault)
	return a
}
