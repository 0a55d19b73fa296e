package firmwaretest

import (
	"sync"
	"time"
)

const (
	lockTime     = 300 * time.Second // after the last new block
	lastLockTime = 2 * time.Second   // after a repeated last block
)

// pushLock is a device that does nothing else while a package is pushed.
type pushLock struct {
	mu    sync.Mutex
	path  string
	token string
	next  int64     // where the next block begins
	until time.Time // when the push is given up; zero without a push
	last  uint16    // message ID of the last block
	rest  time.Time // until when the device handles a repeated last block
}

func (l *pushLock) received(m *message) (*message, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	b, isBlock := m.block1()
	open := now.Before(l.until)
	switch {
	case open && (!isBlock || m.path() != l.path || b.offset != l.next):
		return m.answer(codeUnavailable), false
	case !open && now.Before(l.rest):
		return m.answer(codeUnavailable), false
	case !open && isBlock && !b.more && b.offset > 0 && m.mid == l.last && m.path() == l.path:
		l.rest = now.Add(lastLockTime)
		return m.answer(codeUnavailable), false
	case !isBlock:
		return nil, true
	}
	l.path, l.token, l.last = m.path(), string(m.token), m.mid
	l.next, l.until = b.offset+int64(len(m.payload)), time.Time{}
	if b.more {
		l.until = now.Add(lockTime)
	}
	return nil, true
}

// lingers returns when the push is given up. Until then the device keeps its old socket, even if
// its client has given up and opened another: it has only one thread.
func (l *pushLock) lingers() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

// sent lets only the answers to blocks out.
func (l *pushLock) sent(m *message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.until) && !now.Before(l.rest) {
		return true
	}
	return m.kind >= kindACK || m.class() >= 2 && string(m.token) == l.token
}
