// Package device is the device's end of firmware updates over LwM2M.
//
// A [Device] is Object 5 for an lwm2m.Client. It takes packages by push and by pull, and hands them
// to an [Installer], which knows where packages go and how they are started. [Slots] is an
// Installer for programs: two slots, a signed bundle (package bundle), a trial run and a way back.
//
// The server's end is package firmware, which neither needs this package nor is needed by it.
package device
