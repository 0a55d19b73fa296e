// Command client is an LwM2M device whose firmware can be updated: a simulated one, a fleet of
// them, or this program itself, which an update replaces.
//
//	client -server coap://127.0.0.1:5683 -endpoint sensor -version 1.0.0
//
// With -install simulate (the default) it takes images whose first line is "otago-demo-image
// VERSION", keeps them, and "reboots": it registers again, from a new port, with the new version.
// -count N makes a fleet of N of them.
//
// With -install exec it takes signed bundles of other builds of itself. The program is then two
// processes: a supervisor, which no update replaces, and the device, which the supervisor starts
// from the image that was installed. The supervisor returns to the previous version when a new one
// does not register and confirm itself within -confirm-within. Either process may be killed at any
// time.
//
// Its state is in -state, a folder for each endpoint: what was installed there takes precedence
// over -version.
package main
