package lwm2m

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

// TestAttributes: what LwM2M does not define becomes an attribute, as it was sent.
func TestAttributes(t *testing.T) {
	many := []string{}
	for i := range maxAttributes {
		many = append(many, fmt.Sprintf("a%02d=%d", i, i))
	}
	long := strings.Repeat("x", maxAttributeBytes-len("n="))
	for _, test := range []struct {
		name    string
		queries []string
		want    string // the attributes, or "4.00"
	}{
		{"none", nil, ""},
		{"sorted", []string{"tenant=a", "site=north"}, "site=north&tenant=a"},
		{"what LwM2M defines is none", []string{"lt=300", "lwm2m=1.1", "b=U", "Q", "sms=1", "pid=p"}, ""},
		{"names are case-sensitive", []string{"EP=x", "Site=n"}, "EP=x&Site=n"},
		{"without =", []string{"flag"}, "flag="},
		{"with several =", []string{"n=a=b"}, "n=a%3Db"},
		{"without a name", []string{"=x", ""}, ""},
		{"percent is no escape", []string{"n=%41%zz"}, "n=%2541%25zz"},
		{"characters of queries", []string{"n=a&b;c+d e"}, "n=a%26b%3Bc%2Bd e"},
		{"UTF-8", []string{"straße=Dünedin"}, "straße=Dünedin"},
		{"what ends strings and lines", []string{"n=a\x00\r\n"}, "n=a"},
		{"twice the same", []string{"n=a", "n=a"}, "n=a"},
		{"twice", []string{"n=a", "n=b"}, "4.00"},
		{"not UTF-8", []string{"n=a\xff"}, "4.00"},
		{"name that is not UTF-8", []string{"\xff=a"}, "4.00"},
		{"control characters", []string{"n=a\nb"}, "4.00"},
		{"name with control characters", []string{"n\x01=a"}, "4.00"},
		{"name that looks like another", []string{"n\u200b=a"}, "4.00"},
		{"many", many, strings.Join(many, "&")},
		{"too many", append(many, "z=1"), "4.00"},
		{"long", []string{"n=" + long}, "n=" + long},
		{"too long", []string{"n=x" + long}, "4.00"},
		{"too long together", []string{"m=", "n=" + long}, "4.00"},
		{"too long when escaped", []string{"n=%" + long[1:]}, "4.00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked string
			s := MustServer(ServerConfig{Authorize: func(_ context.Context, r Registration) error {
				asked = r.Attributes
				return nil
			}})
			resp := register(s, append([]string{"ep=a"}, test.queries...)...)
			if test.want == "4.00" {
				require.Equal(t, CodeBadRequest, ResponseCode(resp.Code))
				require.NotEmpty(t, resp.Payload, "a reason")
				return
			}
			require.Equal(t, coap.Created, resp.Code, string(resp.Payload))
			reg, _ := s.Registration("a")
			require.Equal(t, test.want, reg.Attributes)
			require.Equal(t, test.want, asked)
			values, err := url.ParseQuery(reg.Attributes)
			require.NoError(t, err)
			for name := range values {
				value, ok := reg.Attribute(name)
				require.True(t, ok)
				require.Equal(t, values.Get(name), value)
			}
			_, ok := reg.Attribute("none")
			require.False(t, ok)
		})
	}
}

// TestAttributesOfUpdate: an Update sets what it carries, if Authorize agrees.
func TestAttributesOfUpdate(t *testing.T) {
	var asked []string
	var refusal error
	s := MustServer(ServerConfig{Authorize: func(_ context.Context, r Registration) error {
		asked = append(asked, r.Attributes)
		return refusal
	}})
	path := location(register(s, "ep=a", "site=north", "tenant=a"))
	for _, test := range []struct {
		queries []string
		refusal error
		want    string // "": as before
		code    coap.Code
		asked   []string
	}{
		{queries: []string{"lt=600"}, code: coap.Changed},
		{queries: []string{"site=north"}, code: coap.Changed},
		{queries: []string{"site=south", "shelf=3"}, want: "shelf=3&site=south&tenant=a", code: coap.Changed, asked: []string{"shelf=3&site=south&tenant=a"}},
		{queries: []string{"tenant=b"}, refusal: errors.New("no"), code: coap.Forbidden, asked: []string{"shelf=3&site=south&tenant=b"}},
		{queries: []string{"more=" + strings.Repeat("x", maxAttributeBytes-10)}, code: coap.BadRequest},
	} {
		before, _ := s.Registration("a")
		asked, refusal = nil, test.refusal
		resp := serve(s, incoming{code: coap.POST, path: path, format: -1, queries: test.queries})
		require.Equal(t, test.code, resp.Code, "%v: %s", test.queries, resp.Payload)
		require.Equal(t, test.asked, asked, test.queries)
		after, _ := s.Registration("a")
		if test.want == "" {
			test.want = before.Attributes
		}
		require.Equal(t, test.want, after.Attributes, test.queries)
	}
}

// TestAttributesAreText: attributes count as text of registrations, those that devices share once.
func TestAttributesAreText(t *testing.T) {
	s := MustServer(ServerConfig{})
	sizes := []int64{}
	for _, queries := range [][]string{{"ep=a"}, {"ep=b", "site=north"}, {"ep=c", "site=north"}} {
		before := s.table.size
		register(s, queries...)
		sizes = append(sizes, s.table.size-before)
	}
	require.Equal(t, sizes[2]+int64(len("site=north"))+textCost, sizes[1])
	for _, endpoint := range []string{"a", "b", "c"} {
		require.NoError(t, s.DeleteDevice(t.Context(), endpoint))
	}
	require.Zero(t, s.table.size)
	require.Empty(t, s.table.texts)

	small := MustServer(ServerConfig{MaxRegistrationBytes: 600})
	path := location(register(small, "ep=a"))
	resp := serve(small, incoming{code: coap.POST, path: path, format: -1, queries: []string{"n=" + strings.Repeat("x", 400)}})
	require.Equal(t, CodeUnavailable, ResponseCode(resp.Code))
}

// TestSentAttributes: NewClient refuses attributes that a server would not read as they are.
func TestSentAttributes(t *testing.T) {
	for name, attributes := range map[string]map[string]string{
		"":                     {"site": "north", "n": "a=b&c", "flag": ""},
		`"ep" is no name`:      {"ep": "other"},
		`"b" is no name`:       {"b": "U"},
		`"lt" is no name`:      {"lt": "junk"},
		`"Q" is no name`:       {"Q": ""},
		`"" is no name`:        {"": "x"},
		`"n=m" is no name`:     {"n=m": "x"},
		`"n" and its value`:    {"n": "x\n"},
		`"m" and its value`:    {"m": "x\ny"},
		`"\xff" and its value`: {"\xff": "1"},
		"more than 255 bytes":  {"n": strings.Repeat("x", 254)},
		"or than 512 bytes":    {"n": strings.Repeat("x", 250), "m": strings.Repeat("x", 250), "o": strings.Repeat("x", 250)},
	} {
		_, err := NewClient(ClientConfig{Endpoint: "a", Server: "coap://192.0.2.1", Attributes: attributes})
		if name == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, "lwm2m: ClientConfig.Attributes: ")
		require.ErrorContains(t, err, name)
	}
}

// asleep returns after which time the server takes a device for asleep.
func asleep(s *Server, endpoint string) time.Duration {
	start := time.Now()
	for time.Sleep(time.Second / 2); ; time.Sleep(time.Second) {
		s.mu.Lock()
		awake := s.table.byEndpoint.Get(endpoint).awake
		s.mu.Unlock()
		if !awake {
			return time.Since(start).Truncate(time.Second)
		}
	}
}

// TestAwakeTimeOf: the program says how long a device listens, at a Register, at an Update that
// changes the registration, and after a restart.
func TestAwakeTimeOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &recordingStore{}
		times := map[string]time.Duration{"short": 10 * time.Second, "long": 200 * time.Second, "none": -time.Second}
		config := ServerConfig{Registrations: store, AwakeTimeOf: func(r Registration) time.Duration {
			model, _ := r.Attribute("model")
			if model == "panics" {
				panic(model)
			}
			return times[model]
		}}
		s := MustServer(config)
		require.NoError(t, s.enter(t.Context()))
		path := ""
		for _, test := range []struct {
			model string
			want  time.Duration
		}{{"short", 10}, {"long", 200}, {"none", 93}, {"unknown", 93}, {"panics", 93}} {
			path = location(register(s, "ep=a", "Q", "lwm2m=1.1", "lt=86400", "model="+test.model))
			require.Equal(t, test.want*time.Second, asleep(s, "a"), test.model)
		}
		update := func(queries ...string) {
			require.Equal(t, coap.Changed, serve(s, incoming{code: coap.POST, path: path, format: -1, queries: queries}).Code)
		}
		update("model=short")
		require.Equal(t, 10*time.Second, asleep(s, "a"))
		times["short"] = 20 * time.Second
		update()
		require.Equal(t, 10*time.Second, asleep(s, "a"), "nothing has changed")
		s.leave()

		again := MustServer(config)
		require.NoError(t, again.enter(t.Context()))
		s = again
		update()
		require.Equal(t, 20*time.Second, asleep(again, "a"), "after a restart")
		again.leave()
	})
}

// TestAwakeTimeOfHangs: a function that does not return delays one device by a second.
func TestAwakeTimeOfHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := MustServer(ServerConfig{AwakeTimeOf: func(Registration) time.Duration {
			<-hang
			return time.Second
		}})
		require.NoError(t, s.enter(t.Context()))
		for i := range 10 {
			start := time.Now()
			require.Equal(t, coap.Created, register(s, fmt.Sprint("ep=", i), "Q", "lwm2m=1.1").Code)
			if i == 0 {
				require.Equal(t, awakeLimit, time.Since(start))
			} else {
				require.Zero(t, time.Since(start))
			}
		}
		require.Equal(t, 93*time.Second, asleep(s, "9"))
		close(hang)
		synctest.Wait()
		register(s, "ep=a", "Q", "lwm2m=1.1")
		require.Equal(t, time.Second, asleep(s, "a"), "it works again")
		s.leave()
	})
}
