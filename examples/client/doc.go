// Command client is an LwM2M device with updatable firmware: a simulated device, a fleet of them,
// or this program itself, which an update replaces.
//
//	client -server coap://127.0.0.1:5683 -endpoint sensor -version 1.0.0
//
// With -install simulate (the default) it accepts images whose first line is "otago-demo-image
// VERSION", stores them, and "reboots": it registers again, from a new port, with the new version.
// -count N simulates a fleet of N devices, of which the first -fail ones refuse each package, the
// next -rollback ones go back to their old version, and the next -silent ones answer no request.
// -manufacturer, -model and -hardware are what servers select devices by.
//
//	client -endpoint sensor -count 50 -fail 3 -rollback 2 -silent 5
//
// With -install exec it accepts signed bundles of other builds of itself. The program then runs as
// two processes: a supervisor, which no update replaces, and the device, which the supervisor
// starts from the installed image. The supervisor returns to the previous version if a new one does
// not register and confirm itself within -confirm-within. Either process may be killed at any time.
//
// Its state is in -state, a folder for each endpoint. A version installed there takes precedence
// over -version.
package main
