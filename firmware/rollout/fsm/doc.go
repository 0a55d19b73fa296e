// Package fsm holds the state machine of a rollout: one image on its way to many devices, in stages
// that stop by themselves.
//
// It is a value and a function. It has no clock, goroutine, socket or disk, and holds no members:
// [Rollout] has the plan and counters, and each [Member] is a record of its own, so that a step
// costs the same for ten devices and for a million. [Rollout.Step] takes an [Input] that concerns
// the rollout, or the rollout and one member, and returns both as they are after it. The shell
// stores them in one commit, with the lines of the journal, before it carries the action out.
//
//	next, member, actions := rollout.Step(member, input)
//	if actions.Persist {
//		store(next, member, actions.Journal)
//	}
//	do(actions.Do) // start, hold, release or cancel the member's update
//
// The shell offers members (InputReach) in an order of its own; the machine admits one or says why
// not. What the shell must do next follows from what is stored alone: a member whose Place is
// starting needs its update made, one that is granted and may not run needs a hold, and so on
// (Actions.Do). So a crash between a step and its action costs a repetition, and the keys of
// updates and the names of holds make that harmless.
//
// An update of a rollout executes only while the rollout does not hold it. Those that it does not
// hold are granted: together with those that install they are never more than the plan's
// Concurrency, and a trip, a pause or the end of a window takes the grants back.
//
// These invariants hold whatever devices, operators and crashes do:
//
//  1. Never more members transfer, or install, than Concurrency: none is admitted while so many
//     transfer, and those that install are counted with those that may. Only members that were
//     away go on without a place to transfer when they are back, and an edit takes effect as
//     members end.
//  2. No member is admitted sooner after the last one than the plan's Interval, before StartAt or
//     after EndAt.
//  3. A stage opens only by its rule: a member of the one before was updated, none of them is on
//     its way, its soak is over, an operator has opened it if it is manual, and the program
//     agrees.
//  4. After a trip, or any other pause, no member is admitted, and no update executes whose hold
//     came first. A rollout in which too many members are bad does not run.
//  5. The counters equal the members.
//  6. Each member that waits has a reason, or is admitted when it is offered.
//  7. A rollout that has ended has no member that waits or is active.
//  8. A crash changes no outcome: if devices and operators behave in the end, each member ends, as
//     its device has, and none is updated twice.
//
// The model check of this package explores them, from the way on which all goes well along all ways
// with up to two other moves, and in random walks; TestCrash crashes at each step of whole stories.
// testdata/faults plants faults of the code that these tests must find.
//
// testdata/transitions.golden has what each input does in each state. MACHINE.md, generated from
// the code, draws that.
package fsm

//go:generate go test . -run "TestTransitions|TestMachine|TestStories" -update
