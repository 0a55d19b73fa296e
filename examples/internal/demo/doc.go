// Package demo is a device that installs nothing: it takes images whose first line is
// "otago-demo-image VERSION", keeps them in two slots as a real one does, and "reboots" by
// registering anew, from another port, with the new version.
package demo
