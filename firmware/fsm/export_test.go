package fsm

import "time"

// RetryAt is when the next attempt may begin.
func (u Update) RetryAt() time.Time { return u.Memory.Attempt.RetryAt }

// Resumed is when the server restarted with no read since.
func (u Update) Resumed() time.Time { return u.Memory.Clock.Resumed }
