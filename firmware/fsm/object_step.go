package fsm

// Step returns the object that follows ev, and what the shell owes. It changes
// nothing else and does not allocate.
//
// A request that is not allowed in the current state, or has a bad value, is
// answered in Effects.Code. An event that means nothing in the current state,
// such as the end of a transfer that was aborted, changes nothing.
func (o Object) Step(ev Event) (Object, Effects) {
	return o, Effects{}
}
