package fsm_test

import (
	"fmt"
	"time"

	"github.com/otago-iot/otago/firmware/fsm"
)

// A device takes a Package URI: the shell persists first, then answers, then notifies, then
// downloads.
func ExampleObject_Step() {
	object := fsm.NewObject(fsm.Object11, fsm.PushAndPull)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

	next, fx := object.Step(fsm.Input{Kind: fsm.InputWriteURI, At: now, URI: "coap://fw.example.com/1.1.0"})
	fmt.Println(next.State, next.Result, "persist:", fx.Persist, "answer:", fx.Code, "download:", fx.StartDownload)

	// In Downloading a second URI is refused.
	_, fx = next.Step(fsm.Input{Kind: fsm.InputWriteURI, At: now, URI: "coap://fw.example.com/1.2.0"})
	fmt.Println("persist:", fx.Persist, "answer:", fx.Code)

	// The download fails: its Result is notified before the State.
	next, fx = next.Step(fsm.Input{Kind: fsm.InputDownloadFailed, At: now, Transfer: next.Transfer, Fault: fsm.ResultInvalidURI})
	fmt.Println(next.State, next.Result, "notify:", fx.NotifyResult, fx.NotifyState)
	// Output:
	// downloading default persist: true answer: 2.04 download: true
	// persist: false answer: 4.00
	// idle invalid_uri notify: true true
}

// A server runs an update: it asks for one action at a time, and decides by what it reads.
func ExampleUpdate_Step() {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	update := fsm.NewUpdate(fsm.Plan{Target: "1.1.0", Size: 4096}, now)

	step := func(o fsm.Observation) {
		o.At = now
		var actions fsm.Actions
		update, actions = update.Step(o)
		for _, entry := range actions.Journal {
			fmt.Printf("%s: %s\n", entry.Event, entry.Detail)
		}
		if actions.Do.Kind != fsm.ActionNone {
			fmt.Printf("  do %s, wait for %s\n", actions.Do.Kind, update.Wait.Reason)
		}
	}
	done := func(code fsm.Code, r fsm.Reading) {
		step(fsm.Observation{Kind: fsm.ObserveDone, Action: update.Doing().ID, Code: code, Reading: r})
	}

	step(fsm.Observation{Kind: fsm.ObserveStarted, Online: true})
	done(fsm.CodeContent, fsm.Reading{
		State: fsm.Known(fsm.Idle), Result: fsm.Known(fsm.ResultDefault), Version: fsm.Known("1.0.0"),
		Protocols: fsm.Known([]fsm.Protocol{fsm.ProtocolCoAP}), Delivery: fsm.Known(fsm.PullOnly),
		Offers: []fsm.Protocol{fsm.ProtocolCoAP},
	})
	// Output:
	// started: the target is version "1.1.0"
	//   do read, wait for answer to Read
	// read: state idle, result default, version "1.0.0"
	// write_uri: attempt 1: pull by coap, in 5/0/8
	//   do write_uri, wait for answer to Write 5/0/1
}

func ExampleResult() {
	for _, r := range []fsm.Result{0, 5, 11, 200} {
		fmt.Println(int(r), r)
	}
	// Output:
	// 0 default
	// 5 integrity_failed
	// 11 deferred
	// 200 200
}
