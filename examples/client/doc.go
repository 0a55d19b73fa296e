// Command client is a LwM2M device with a firmware that can be updated: a simulated one, a fleet of them, or this very
// program, which an update replaces.
//
//	client -server coap://127.0.0.1:5683 -endpoint sensor -version 1.0.0
//
// With -install simulate (the default) it takes images whose first line is "otago-demo-image VERSION", keeps them, and
// "reboots": it registers again, from a new port, with the new version. -count N makes a fleet of N of them.
//
// With -install exec it takes signed bundles of other builds of itself. The program is then two processes: one that starts
// and watches, and stays what it is, and one that is the device, started from the image that was installed. A version that
// does not register and confirm itself within -confirm-within is given up for the one before. Either process may be killed
// at any time.
//
// Its state is in -state, a folder for each endpoint: what was once installed there wins over -version.
package main
