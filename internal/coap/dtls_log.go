package coap

import (
	"strings"

	"github.com/pion/logging"
)

// dtlsLog is pion's log of one handshake. Nothing of it is kept; it is listened
// to for what pion tells nowhere else.
type dtlsLog struct{ h *dtlsHandshake }

// NewLogger implements [logging.LoggerFactory].
func (l dtlsLog) NewLogger(string) logging.LeveledLogger { return l }

// Debugf implements [logging.LeveledLogger].
func (l dtlsLog) Debugf(format string, _ ...any) {
	if strings.Contains(format, "decrypt failed") {
		l.h.undecryptable()
	}
}

func (dtlsLog) Trace(string)          {}
func (dtlsLog) Tracef(string, ...any) {}
func (dtlsLog) Debug(string)          {}
func (dtlsLog) Info(string)           {}
func (dtlsLog) Infof(string, ...any)  {}
func (dtlsLog) Warn(string)           {}
func (dtlsLog) Warnf(string, ...any)  {}
func (dtlsLog) Error(string)          {}
func (dtlsLog) Errorf(string, ...any) {}
