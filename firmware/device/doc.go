// Package device is the device's end of firmware updates over LwM2M.
//
// A [Device] is Object 5, Firmware Update, for an lwm2m.Client. It takes packages by push and by
// pull, and hands them to an [Installer], which knows where packages are stored and how they start.
// [Slots] is an Installer for programs: two slots, signed bundles (package bundle), a trial and a
// rollback. [Slots.Exec] starts what is installed on a device without a boot loader. Package
// devicetest tests an Installer of your own.
//
// The decisions are those of fsm.Object, the machine of Object 5. Package firmware is the server's
// end; neither of the two needs the other.
package device
