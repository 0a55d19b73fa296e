package lwm2m_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
)

// follower is an object 10000 whose version is the version of LwM2M.
type follower struct {
	emptyObject
	version string
}

func (f *follower) FollowVersion(v lwm2m.Version) { f.version = v.String() }
func (f *follower) Version() string               { return f.version }

// TestObjectsFollowVersion: a server accepts only an older version of LwM2M. Register and Discover
// then list objects of that version.
func TestObjectsFollowVersion(t *testing.T) {
	for _, tc := range []struct{ spoken, object, server, discovered string }{
		{"1.2", "</10000>;ver=1.2", "</1>;ver=1.1", `</10000>;ver=1.2`},
		{"1.1", "</10000>;ver=1.1", "</1>;ver=1.1", `</10000>;ver=1.1`},
		{"1.0", "</10000>", "</1/0>", `</10000>`},
	} {
		lists := make(chan string, 10)
		withPicky(t, func(r *coap.IncomingRequest) *coap.Response {
			if r.Path() != "/rd" {
				return nil
			}
			if !slices.Contains(r.Queries(), "lwm2m="+tc.spoken) {
				return &coap.Response{Code: coap.PreconditionFailed}
			}
			lists <- string(r.Payload)
			return nil
		}, func(c *lwm2m.ClientConfig) {
			c.Version = "1.2"
			c.Objects = append(c.Objects, &follower{emptyObject: 10000})
		}, func(t *testing.T, p *picky, c *lwm2m.Client) {
			require.Len(t, lists, 1)
			links := strings.Split(<-lists, ",")
			require.Contains(t, links, tc.object)
			require.Contains(t, links, tc.server)
			discover := func(object string) string {
				resp, err := p.endpoint.Do(t.Context(), p.device(), &coap.Request{Code: coap.GET, Path: []string{object}, Accept: coap.FormatOf(40)})
				require.NoError(t, err)
				return string(resp.Payload)
			}
			require.Equal(t, tc.discovered, strings.Split(discover("10000"), ",")[0])
			require.Equal(t, tc.spoken == "1.0", !strings.Contains(discover("1"), "</1/0/23>"), "Mute Send is of 1.1")
			if tc.spoken == "1.0" {
				require.Equal(t, coap.NotFound, p.write("/1/0/23", "1"))
			}
		})
	}
}
