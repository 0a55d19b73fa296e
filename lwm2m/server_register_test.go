package lwm2m

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/internal/dtls"
)

// An incoming describes a request from the endpoint.
type incoming struct {
	code     coap.Code
	path     string
	queries  []string
	format   int // -1 for none
	payload  string
	peer     coap.Peer
	identity *dtls.Identity
}

const objects = `</1/0>,</3/0>,</5/0>`

var peerA = coap.Peer{Transport: coap.UDP, Addr: netip.MustParseAddrPort("192.0.2.1:1000"), ID: 5683}

// request returns in as a request from the endpoint.
func request(in incoming) *coap.IncomingRequest {
	var options coap.Options
	for segment := range strings.SplitSeq(strings.TrimPrefix(in.path, "/"), "/") {
		options = coap.AppendString(options, coap.URIPath, segment)
	}
	if in.format >= 0 {
		options = coap.AppendUint(options, coap.ContentFormat, uint32(in.format))
	}
	for _, q := range in.queries {
		options = coap.AppendString(options, coap.URIQuery, q)
	}
	if in.peer == (coap.Peer{}) {
		in.peer = peerA
	}
	return &coap.IncomingRequest{
		Peer: in.peer, Identity: in.identity, Code: in.code, Options: options, Payload: []byte(in.payload),
	}
}

// serve passes a request to a server, and runs what follows its answer.
func serve(s *Server, in incoming) *coap.Response {
	resp := s.serveCOAP(context.Background(), request(in))
	if resp.After != nil {
		resp.After()
	}
	if resp.Confirm != nil {
		resp.Confirm(nil)
	}
	return resp
}

func register(s *Server, queries ...string) *coap.Response {
	return serve(s, incoming{code: coap.POST, path: "/rd", queries: queries, format: 40, payload: objects})
}

func location(resp *coap.Response) string {
	var b strings.Builder
	for _, o := range resp.Options {
		b.WriteString("/" + string(o.Value))
	}
	return b.String()
}

func TestRegisterRefusesWhatIsWrong(t *testing.T) {
	long := strings.Repeat("x", 10<<10)
	for _, test := range []struct {
		name    string
		queries []string
		format  int
		payload string
		want    ResponseCode
	}{
		{"no ep", []string{"lt=300", "lwm2m=1.1"}, 40, objects, CodeBadRequest},
		{"empty ep", []string{"ep="}, 40, objects, CodeBadRequest},
		{"ep that no path can have", []string{"ep=."}, 40, objects, CodeBadRequest},
		{"ep that no path can have", []string{"ep=.."}, 40, objects, CodeBadRequest},
		{"ep twice", []string{"ep=a", "ep=b"}, 40, objects, CodeBadRequest},
		{"ep with control characters", []string{"ep=a\x00b"}, 40, objects, CodeBadRequest},
		{"ep with C1 control characters", []string{"ep=a\u0085b"}, 40, objects, CodeBadRequest},
		{"ep of blanks", []string{"ep=  "}, 40, objects, CodeBadRequest},
		{"ep that is written backwards", []string{"ep=a\u202eb"}, 40, objects, CodeBadRequest},
		{"ep that looks like another", []string{"ep=a\u200bb"}, 40, objects, CodeBadRequest},
		{"ep of two lines", []string{"ep=a\u2028b"}, 40, objects, CodeBadRequest},
		{"ep with a byte order mark", []string{"ep=\ufeffa"}, 40, objects, CodeBadRequest},
		{"ep with a blank that is none", []string{"ep=a\u00a0"}, 40, objects, CodeBadRequest},
		{"ep that is not UTF-8", []string{"ep=a\xffb"}, 40, objects, CodeBadRequest},
		{"ep of 256 bytes", []string{"ep=" + long[:256]}, 40, objects, CodeBadRequest},
		{"ep of 10 KB", []string{"ep=" + long}, 40, objects, CodeBadRequest},
		{"lt below 0", []string{"ep=a", "lt=-1"}, 40, objects, CodeBadRequest},
		{"lt with sign", []string{"ep=a", "lt=+5"}, 40, objects, CodeBadRequest},
		{"lt that is a fraction", []string{"ep=a", "lt=1.5"}, 40, objects, CodeBadRequest},
		{"lt that is junk", []string{"ep=a", "lt=soon"}, 40, objects, CodeBadRequest},
		{"lt without value", []string{"ep=a", "lt"}, 40, objects, CodeBadRequest},
		{"lt of 32 bits", []string{"ep=a", "lt=4294967295"}, 40, objects, CodeBadRequest},
		{"lt of more bits", []string{"ep=a", "lt=99999999999999999999"}, 40, objects, CodeBadRequest},
		{"unknown version", []string{"ep=a", "lwm2m=2.0"}, 40, objects, CodePreconditionFailed},
		{"unknown minor version", []string{"ep=a", "lwm2m=1.3"}, 40, objects, CodePreconditionFailed},
		{"version that is junk", []string{"ep=a", "lwm2m=one"}, 40, objects, CodeBadRequest},
		{"binding that is junk", []string{"ep=a", "b=u!"}, 40, objects, CodeBadRequest},
		{"binding of 10 KB", []string{"ep=a", "b=" + strings.ToUpper(long)}, 40, objects, CodeBadRequest},
		{"sms of 10 KB", []string{"ep=a", "sms=" + long}, 40, objects, CodeBadRequest},
		{"no payload", []string{"ep=a"}, 40, "", CodeBadRequest},
		{"payload that is junk", []string{"ep=a"}, 40, "\x01\x02", CodeBadRequest},
		{"payload without objects", []string{"ep=a"}, 40, "</a/b>", CodeBadRequest},
		{"payload in another format", []string{"ep=a"}, 110, objects, CodeUnsupportedFormat},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := MustServer(ServerConfig{})
			resp := serve(s, incoming{code: coap.POST, path: "/rd", queries: test.queries, format: test.format, payload: test.payload})
			require.Equal(t, test.want, ResponseCode(resp.Code), string(resp.Payload))
			require.NotEmpty(t, resp.Payload, "a reason")
			require.Zero(t, s.table.byEndpoint.Len())
		})
	}
}

func TestRegisterTakesWhatIsRight(t *testing.T) {
	for _, test := range []struct {
		name    string
		queries []string
		check   func(*require.Assertions, Registration)
	}{
		{"bare", []string{"ep=a"}, func(r *require.Assertions, reg Registration) {
			r.Equal("1.0", reg.Version.String())
			r.Equal(86400.0, reg.Lifetime.Seconds())
			r.Equal("U", reg.Binding)
			r.False(reg.Queue)
		}},
		{"1.0 with queue", []string{"lwm2m=1.0", "ep=a", "lt=300", "b=UQ"}, func(r *require.Assertions, reg Registration) {
			r.Equal("UQ", reg.Binding)
			r.True(reg.Queue)
		}},
		{"1.1 with queue", []string{"lwm2m=1.1", "ep=a", "lt=300", "Q"}, func(r *require.Assertions, reg Registration) {
			r.Equal("U", reg.Binding)
			r.True(reg.Queue)
		}},
		{"what ends strings and lines", []string{"ep=a\x00", "lt=300\x00\x00", "lwm2m=1.1\r\n", "b=UT\n", "sms=1\x00"}, func(r *require.Assertions, reg Registration) {
			r.Equal(300.0, reg.Lifetime.Seconds())
			r.Equal("1.1", reg.Version.String())
			r.Equal("UT", reg.Binding)
			r.Equal("1", reg.SMS)
		}},
		{"blanks, quotes and lower case", []string{"ep=a", "lt= 300", `lwm2m="1.1"`, "b=uq"}, func(r *require.Assertions, reg Registration) {
			r.Equal(300.0, reg.Lifetime.Seconds())
			r.Equal("1.1", reg.Version.String())
			r.Equal("UQ", reg.Binding)
			r.True(reg.Queue)
		}},
		{"the same twice, and an empty binding", []string{"ep=a", "lt=300", "ep=a", "b="}, func(r *require.Assertions, reg Registration) {
			r.Equal("U", reg.Binding)
		}},
		{"version of one part", []string{"ep=a", "lwm2m=1"}, func(r *require.Assertions, reg Registration) {
			r.Equal("1.0", reg.Version.String())
		}},
		{"version of three parts", []string{"ep=a", "lwm2m=1.1.1"}, func(r *require.Assertions, reg Registration) {
			r.Equal("1.1", reg.Version.String())
		}},
		{"no lifetime", []string{"ep=a", "lt=0", "lwm2m=1.2"}, func(r *require.Assertions, reg Registration) {
			r.Zero(reg.Lifetime)
		}},
		{"all", []string{"ep=a", "lwm2m=1.2", "sms=+4912345", "pid=p1", "b=UT", "new=1"}, func(r *require.Assertions, reg Registration) {
			r.Equal("+4912345", reg.SMS)
			r.Equal("p1", reg.ProfileID)
			r.Equal("UT", reg.Binding)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := MustServer(ServerConfig{})
			resp := register(s, test.queries...)
			require.Equal(t, coap.Created, resp.Code, string(resp.Payload))
			reg, ok := s.Registration("a")
			require.True(t, ok)
			require.Equal(t, "/rd/"+reg.ID, location(resp))
			require.Equal(t, peerA.Addr, reg.Address)
			if test.check != nil {
				test.check(require.New(t), reg)
			}
		})
	}
	s := MustServer(ServerConfig{})
	for _, name := range []string{"urn:imei:490154203237518", "a/b", "a b", "äöü€", "100%", "a%2Fb", strings.Repeat("x", 255)} {
		require.Equal(t, coap.Created, register(s, "ep="+name).Code)
		_, ok := s.Registration(name)
		require.True(t, ok, name)
	}
}

// TestOddRegisters: the server accepts unusual forms that are unambiguous.
func TestOddRegisters(t *testing.T) {
	for name, in := range map[string]incoming{
		"as text":         {path: "/rd", format: 0, payload: objects},
		"as nothing":      {path: "/rd", format: -1, payload: objects},
		"with a slash":    {path: "/rd/", format: 40, payload: objects},
		"ends like C":     {path: "/rd", format: 40, payload: objects + "\x00"},
		"resources alone": {path: "/rd", format: 40, payload: "</1/0/1>,</3/0/11/0>,</5/0/3>"},
	} {
		s := MustServer(ServerConfig{})
		in.code, in.queries = coap.POST, []string{"ep=a"}
		resp := serve(s, in)
		require.Equal(t, coap.Created, resp.Code, "%s: %s", name, resp.Payload)
		r, _ := s.Registration("a")
		for _, id := range []uint16{1, 3, 5} {
			require.True(t, r.Objects().Has(NewPath(id, 0)), name)
		}
		in.path, in.queries = location(resp), nil
		require.Equal(t, coap.Changed, serve(s, in).Code, name)
		require.Equal(t, coap.Changed, serve(s, incoming{code: coap.POST, path: in.path + "/", format: 0, payload: "\x00"}).Code, name)
		after, _ := s.Registration("a")
		require.Equal(t, r.Links, after.Links)
		require.NotContains(t, r.Links, "\x00")
	}
}

// TestRefusalsSayWhatIsWrong: the answer names the offset or the parameter.
func TestRefusalsSayWhatIsWrong(t *testing.T) {
	s := MustServer(ServerConfig{})
	for want, in := range map[string]incoming{
		"offset 9":    {queries: []string{"ep=a"}, payload: `</3/0>,</`},
		"offset 22":   {queries: []string{"ep=a"}, payload: `</>;ct="60 110,</3/0>;`},
		`below "/x/"`: {queries: []string{"ep=a"}, payload: `</x>;rt="oma.lwm2m",</3/0>`},
		"lt":          {queries: []string{"ep=a", "lt=1h"}, payload: objects},
		`"ep" given`:  {queries: []string{"ep=a", "ep=b"}, payload: objects},
		"lwm2m":       {queries: []string{"ep=a", "lwm2m=x"}, payload: objects},
		"b is":        {queries: []string{"ep=a", "b=U1"}, payload: objects},
	} {
		in.code, in.path, in.format = coap.POST, "/rd", 40
		resp := serve(s, in)
		require.Equal(t, uint8(4), uint8(resp.Code>>5))
		require.Contains(t, string(resp.Payload), want)
	}
}

func TestUpdateAndDeregister(t *testing.T) {
	s := MustServer(ServerConfig{})
	path := location(register(s, "ep=a", "lt=300", "lwm2m=1.1"))
	update := func(path string, in incoming) ResponseCode {
		in.code, in.path = coap.POST, path
		return ResponseCode(serve(s, in).Code)
	}
	changed := ResponseCode(coap.Changed)
	require.Equal(t, changed, update(path, incoming{format: -1}))
	require.Equal(t, changed, update(path, incoming{format: -1, queries: []string{"lt=600", "Q"}}))
	require.Equal(t, changed, update(path, incoming{format: 40, payload: "</3/0>"}))
	reg, _ := s.Registration("a")
	require.Equal(t, 600.0, reg.Lifetime.Seconds())
	require.True(t, reg.Queue)
	require.Equal(t, "</3/0>", reg.Links)

	require.Equal(t, CodeBadRequest, update(path, incoming{format: -1, queries: []string{"lt=4294967295"}}))
	require.Equal(t, CodeBadRequest, update(path, incoming{format: 40, payload: "junk"}))
	require.Equal(t, CodeNotFound, update("/rd/unknown", incoming{format: -1}))
	require.Equal(t, CodeNotFound, update(path+"/x", incoming{format: -1}))
	require.Equal(t, CodeMethodNotAllowed, ResponseCode(serve(s, incoming{code: coap.GET, path: path, format: -1}).Code))
	require.Equal(t, CodeMethodNotAllowed, ResponseCode(serve(s, incoming{code: coap.GET, path: "/rd", format: -1}).Code))
	after, _ := s.Registration("a")
	require.Equal(t, reg.Lifetime, after.Lifetime)

	// Another Register replaces it; the old location is gone.
	second := location(register(s, "ep=a"))
	require.NotEqual(t, path, second)
	require.Equal(t, CodeNotFound, update(path, incoming{format: -1}))
	require.Equal(t, coap.Deleted, serve(s, incoming{code: coap.DELETE, path: second, format: -1}).Code)
	require.Equal(t, CodeNotFound, ResponseCode(serve(s, incoming{code: coap.DELETE, path: second, format: -1}).Code))
}

func TestBounds(t *testing.T) {
	s := MustServer(ServerConfig{MaxRegistrations: 3})
	for i := range 3 {
		require.Equal(t, coap.Created, register(s, fmt.Sprintf("ep=%d", i)).Code)
	}
	require.Equal(t, CodeUnavailable, ResponseCode(register(s, "ep=4").Code))
	require.Equal(t, coap.Created, register(s, "ep=1").Code, "one that is known may come back")
	reg, _ := s.Registration("2")
	serve(s, incoming{code: coap.DELETE, path: "/rd/" + reg.ID, format: -1})
	require.Equal(t, coap.Created, register(s, "ep=4").Code, "one that is gone makes room")
}

func FuzzRegister(f *testing.F) {
	f.Add("ep=a&lt=300&lwm2m=1.1&Q", objects, uint16(40))
	f.Add("ep=%41&b=UQ&sms=1", `</>;rt="oma.lwm2m";ct=110,</1>;ver=1.1,</1/0>`, uint16(40))
	f.Add("ep=a&lt=0", "", uint16(0))
	f.Fuzz(func(t *testing.T, queries, payload string, format uint16) {
		s := MustServer(ServerConfig{})
		resp := serve(s, incoming{code: coap.POST, path: "/rd", queries: strings.Split(queries, "&"), format: int(format), payload: payload})
		switch class := resp.Code >> 5; {
		case resp.Code == coap.Created:
			if s.table.byEndpoint.Len() != 1 || s.table.byID.Len() != 1 {
				t.Fatal("accepted, but not there")
			}
			for d := range s.table.byEndpoint.All() {
				r := d.registration()
				if err := checkText("ep", r.Endpoint, maxEndpoint); err != nil || r.Endpoint == "" || r.Lifetime < 0 || len(r.Objects().Objects) == 0 {
					t.Fatalf("accepted %+v", r)
				}
			}
			resp = serve(s, incoming{code: coap.POST, path: location(resp), queries: strings.Split(queries, "&"), format: int(format), payload: payload})
			if resp.Code != coap.Changed {
				t.Fatalf("the same as an Update: %v", resp.Code)
			}
		case class != 4 || s.table.byEndpoint.Len() != 0:
			t.Fatalf("%v with %d endpoints", resp.Code, s.table.byEndpoint.Len())
		}
	})
}
