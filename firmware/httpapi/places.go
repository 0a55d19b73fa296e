package httpapi

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"github.com/otago-iot/otago/firmware/internal/door"
)

// places counts what clients have open, such as event streams.
type places struct {
	what   string // in words, in the plural
	most   int
	device int // of one device

	mu       sync.Mutex
	open     int
	by       map[client]int
	byDevice map[string]int // by endpoint
}

// A client identifies the owner of a share of the places. Clients behind one proxy have the same
// address, and clients may have the same token, so it needs both.
type client struct {
	from    netip.Prefix
	bearing string
}

// share is the number by which the places are divided to get the share of one client.
const share = 4

// enter counts what a request opens, for a device unless endpoint is "", until the caller calls
// leave, which returns how many are open then.
func (p *places) enter(r *http.Request, endpoint string) (leave func() int, err error) {
	scheme, credentials, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	c := client{door.SourceOf(r.RemoteAddr), strings.ToLower(scheme) + " " + strings.TrimSpace(credentials)}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.open >= p.most:
		return nil, newProblem(http.StatusServiceUnavailable, "unavailable", "too many "+p.what+" are open")
	case p.by[c] >= max(1, p.most/share):
		return nil, newProblem(http.StatusTooManyRequests, "too-many", "this client has as many "+p.what+" open as one may have")
	case endpoint != "" && p.byDevice[endpoint] >= p.device:
		return nil, newProblem(http.StatusTooManyRequests, "too-many", "as many "+p.what+" are open for this device as may be for one")
	}
	if p.by == nil {
		p.by, p.byDevice = make(map[client]int), make(map[string]int)
	}
	p.open++
	p.by[c]++
	p.byDevice[endpoint]++
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		if p.by[c]--; p.by[c] == 0 {
			delete(p.by, c)
		}
		if p.byDevice[endpoint]--; p.byDevice[endpoint] == 0 {
			delete(p.byDevice, endpoint)
		}
		return p.open
	}, nil
}

// count returns how many are open, and how many may be.
func (p *places) count() (open, most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open, p.most
}
