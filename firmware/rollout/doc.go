// Package rollout updates many devices to one image, in stages that stop by themselves.
//
// A [Manager] stands over a [firmware.Manager] and uses it as any other program does: each member
// of a rollout gets an update of its own, which the rollout holds until it is the member's turn to
// install.
//
//	var rollouts *rollout.Manager
//	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{
//		Delivery:  delivery,
//		Inventory: true, // without it devices are not known by version or model
//		Keep: func(ctx context.Context, kind store.Kind, id string) (string, error) {
//			return rollouts.Keep(ctx, kind, id) // what a rollout needs is not deleted
//		},
//	})
//	...
//	rollouts, err = rollout.NewManager(srv, mgr, db, rollout.Config{})
//	...
//	group.Go(func() error { return rollouts.Run(ctx) })
//	r, err := rollouts.Create(ctx, rollout.Request{
//		Image: image.ID, Select: &rollout.Selector{Model: "SensorOne", VersionBelow: "2.0.0"}, Start: true,
//	})
//
// By default one device is updated first; when it has run the image for ten minutes, one of a
// hundred, one of ten, and then all. The first bad device of the first stage pauses the rollout,
// and later more than five of a hundred; then the rollout holds all updates that have not begun to
// install. Package fsm of this directory decides all that, and says what a bad device is.
//
// [Describe] says in a sentence where a rollout stands, and [Manager.Why] why a member waits. How a
// member has ended is in its update, Member.Machine.Update: Outcome and Reason say it, and the
// journal in full.
//
// A stage's size is a number of devices, not a list of them: whichever can be reached next is
// admitted, in an order that is stable and looks random. So devices that are away block no stage.
// Members of a rollout and all that it knows are records of the store; a member that waits takes no
// memory.
package rollout
