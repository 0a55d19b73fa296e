package firmwaretest

import (
	"context"
	"strings"

	"github.com/otago-iot/otago/lwm2m"
)

// Listing is how a registration shows Object 5. The listings without a client's name come from
// reports by users of several servers.
type Listing uint8

// The listings. Unless the comment says otherwise, the object exists at /5/0.
const (
	// ListsInstance lists </5>;ver=1.1 and </5/0>.
	ListsInstance Listing = iota
	// ListsNothing does not list Object 5, and there is none: requests for it get 4.04. Leshan's
	// demo client.
	ListsNothing
	// ListsOtherInstance lists </5/1>, where the object is: there is no /5/0.
	ListsOtherInstance
	// ListsAdvanced lists </33629/0>, Advanced Firmware Update, as Anjay does if built for it;
	// there is no Object 5. The object works there as Object 5 does here.
	ListsAdvanced
	// ListsNoInstance lists </5>, without an instance, as Anjay lists objects whose instances it
	// has not made.
	ListsNoInstance
	// ListsResources lists </5/0/3> and </5/0/5>, but neither the object nor the instance.
	ListsResources
)

// objectID is the object that the device has.
func (d *Device) objectID() uint16 {
	if d.script.Habits.Listing == ListsAdvanced {
		return 33629
	}
	return 5
}

func (d *Device) instance() uint16 {
	if d.script.Habits.Listing == ListsOtherInstance {
		return 1
	}
	return 0
}

// hasObject reports whether this life has the object. d.mu is held.
func (d *Device) hasObject() bool { return !d.lost && d.script.Habits.Listing != ListsNothing }

// appear makes the hidden object, and updates the registration.
func (d *Device) appear(ctx context.Context) {
	if pause(ctx, d.script.Habits.Appears) != nil {
		return
	}
	d.mu.Lock()
	d.hidden = false
	client := d.client
	d.mu.Unlock()
	if client != nil {
		client.Notify(lwm2m.NewPath(d.objectID()))
	}
}

// lister changes the list of objects on its way to the server.
type lister struct{ device *Device }

func (lister) received(*message) (*message, bool) { return nil, true }

func (l lister) sent(m *message) bool {
	if m.code != codePOST || len(m.payload) == 0 || !strings.HasPrefix(m.path()+"/", "/rd/") {
		return true
	}
	var links []string
	for link := range strings.SplitSeq(string(m.payload), ",") {
		if !strings.HasPrefix(link, "</5>") && !strings.HasPrefix(link, "</5/") {
			links = append(links, link)
		}
	}
	l.device.mu.Lock()
	there := l.device.hasObject() && !l.device.hidden
	l.device.mu.Unlock()
	switch listing := l.device.script.Habits.Listing; {
	case !there:
	case listing == ListsNoInstance:
		links = append(links, "</5>")
	case listing == ListsResources:
		links = append(links, "</5/0/3>", "</5/0/5>")
	default:
		return true
	}
	m.payload, m.changed = []byte(strings.Join(links, ",")), true
	return true
}
