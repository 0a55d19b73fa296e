package lwm2m

import "sync"

var builtinModels = sync.OnceValue(func() map[uint16][]*ObjectModel { return nil })
