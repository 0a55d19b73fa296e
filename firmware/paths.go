package firmware

import "github.com/otago-iot/otago/lwm2m"

// The resources of Object 5, and the firmware version of Object 3, by their paths.
var (
	pathFirmware   = lwm2m.NewPath(5, 0)
	pathPackage    = lwm2m.NewPath(5, 0, 0)
	pathPackageURI = lwm2m.NewPath(5, 0, 1)
	pathUpdate     = lwm2m.NewPath(5, 0, 2)
	pathState      = lwm2m.NewPath(5, 0, 3)
	pathResult     = lwm2m.NewPath(5, 0, 5)
	pathProtocols  = lwm2m.NewPath(5, 0, 8)
	pathDelivery   = lwm2m.NewPath(5, 0, 9)
	pathCancel     = lwm2m.NewPath(5, 0, 10)
	pathMaxDefer   = lwm2m.NewPath(5, 0, 13)
	pathAuto       = lwm2m.NewPath(5, 0, 14)
	pathVersion    = lwm2m.NewPath(3, 0, 3)
)
