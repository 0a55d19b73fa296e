package coap

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFIFO(t *testing.T) {
	var f fifo[int]
	var want []int
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 100_000 {
		// Mostly growing, then mostly shrinking, several times.
		if grow := i/5000%2 == 0; rng.Float64() < 0.3 == grow && len(want) > 0 {
			require.Equal(t, want[0], f.front())
			require.Equal(t, want[0], f.pop())
			want = want[1:]
		} else {
			f.push(i)
			want = append(want, i)
		}
		require.Equal(t, len(want), f.len())
	}
}

// alarm records when it fired.
type alarm struct {
	timer
	ts   *timers
	went []time.Duration
}

func (a *alarm) expire() { a.went = append(a.went, a.ts.now()) }

// Timers fire when they should, however they are set, reset and stopped.
func TestTimers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := newTimers()
		rng := rand.New(rand.NewPCG(2, 2))
		alarms := make([]*alarm, 200)
		due := make(map[*alarm]time.Duration)
		for i := range alarms {
			alarms[i] = &alarm{ts: ts}
			alarms[i].timer.owner = alarms[i]
		}
		want := make(map[*alarm][]time.Duration)
		for range 5000 {
			a := alarms[rng.IntN(len(alarms))]
			if rng.IntN(4) == 0 {
				ts.stop(&a.timer)
				delete(due, a)
			} else {
				d := time.Duration(rng.IntN(1000)) * time.Millisecond
				due[a] = ts.now() + d
				ts.set(&a.timer, d)
			}
			<-time.After(time.Duration(rng.IntN(20))*time.Millisecond + time.Microsecond)
			synctest.Wait()
			for a, at := range due {
				if at <= ts.now() {
					want[a] = append(want[a], at)
					delete(due, a)
				}
			}
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		for a, at := range due {
			want[a] = append(want[a], at)
		}
		for _, a := range alarms {
			require.Equal(t, want[a], a.went)
		}
		require.Empty(t, ts.heap)
		ts.close()
	})
}

// Within its limits dedup knows all messages younger than EXCHANGE_LIFETIME, and the right reply to
// each.
func TestDedup(t *testing.T) {
	d := newDedup(1<<20, 1<<26)
	rng := rand.New(rand.NewPCG(3, 3))
	type entry struct {
		at    time.Duration
		reply []byte
	}
	known := make(map[dedupKey]entry)
	now := time.Duration(1)
	for range 200_000 {
		now += time.Duration(rng.IntN(20)) * time.Millisecond
		k := newDedupKey(uint64(rng.IntN(50)), uint16(rng.IntN(2000)))
		reply, seen := d.begin(dedupID{k, 1}, now, nil)
		old, ok := known[k]
		switch {
		case ok && now-old.at <= exchangeLifetime:
			require.True(t, seen)
			require.True(t, bytes.Equal(old.reply, reply))
		case seen:
			require.Less(t, now-old.at, exchangeLifetime+2*dedupChunkAge, "kept too long")
		}
		if seen {
			continue
		}
		e := entry{at: now}
		switch rng.IntN(3) {
		case 0:
			e.reply = bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(300))
			d.reply(dedupID{k, 1}, now, e.reply)
		case 1:
			d.forget(dedupID{k, 1})
			delete(known, k)
			continue
		}
		known[k] = e
	}
	d.expire(now + time.Hour)
	require.Empty(t, d.entries)
	require.Zero(t, d.bytes)
	require.Zero(t, d.chunks.len())
}

func TestDedupBounds(t *testing.T) {
	d := newDedup(10_000, 1<<18)
	for i := range 300_000 {
		k := newDedupKey(uint64(i), 1)
		d.begin(dedupID{k, 1}, time.Duration(i), nil)
		d.reply(dedupID{k, 1}, time.Duration(i), make([]byte, i%200))
		require.LessOrEqual(t, len(d.entries), 10_000)
		require.LessOrEqual(t, d.bytes, 1<<18)
	}
}

// A forgotten message leaves nothing behind for longer than other messages do.
func TestForgottenMessagesAreBounded(t *testing.T) {
	for _, late := range []int{0, 10, 1000} {
		d := newDedup(10_000, 1<<18)
		name := func(i int) dedupID { return dedupID{newDedupKey(uint64(i), 1), 1} }
		for i := range 100_000 {
			d.begin(name(i), time.Duration(i), nil)
			if i >= late {
				d.forget(name(i - late))
			}
			require.LessOrEqual(t, keysOf(d), 10_000)
		}
		require.Len(t, d.entries, late)
		if late < forgetReach {
			require.Equal(t, late, keysOf(d))
		}
	}
}

// keysOf counts the keys in the chunks.
func keysOf(d *dedup) (n int) {
	for i := range d.chunks.len() {
		n += len(d.chunk(d.first + uint32(i)).keys)
	}
	return n
}

// A waiter for the end of all work wakes up, whenever that comes.
func TestWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w underway
		start := time.Now()
		w.wait(time.Hour, nil)
		require.Zero(t, time.Since(start), "there was none")

		w.begin()
		w.begin()
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() { w.wait(time.Hour, nil) })
		}
		synctest.Wait()
		w.end()
		<-time.After(time.Second)
		w.begin() // in time
		w.end()
		<-time.After(time.Second)
		w.end()
		waiting.Wait()
		require.Equal(t, 2*time.Second, time.Since(start))

		w.begin()
		w.wait(time.Minute, nil)
		require.Equal(t, time.Minute+2*time.Second, time.Since(start), "the limit")
		stop := make(chan struct{})
		close(stop)
		w.wait(time.Hour, stop)
		require.Equal(t, time.Minute+2*time.Second, time.Since(start), "stopped")
	})
}
