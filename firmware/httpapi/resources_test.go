package httpapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

// lab is an API with devices on a network in memory, in virtual time.
type lab struct {
	t   *testing.T
	net *simnet.Network
	srv *lwm2m.Server
	mgr *firmware.Manager
	http.Handler
	image firmware.Image
}

// oddName is an endpoint that needs to be escaped.
const oddName = "a//b é?#%2F 1"

// inLab runs fn with a server that has these models.
func inLab(t *testing.T, models *lwm2m.Models, config httpapi.Config, fn func(t *testing.T, l *lab)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		db, network := memory.New(), simnet.New(1)
		network.SetDefault(simnet.Conditions{Delay: 20 * time.Millisecond})
		srv := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{Registrations: firmware.Registrations(db), Models: models})
		images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
		require.NoError(t, err)
		image, err := images.Add(t.Context(), firmware.Image{Version: "2"}, strings.NewReader("image"))
		require.NoError(t, err)
		mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { _ = mgr.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			work.Wait()
		})
		fn(t, &lab{t: t, net: network, srv: srv, mgr: mgr, Handler: handler(t, mgr, httpapi.AllowAll, config), image: image})
	})
}

// device registers a device named oddName.
func (l *lab) device(config lwm2m.ClientConfig) *lwm2m.Client {
	l.t.Helper()
	config.Endpoint, config.Server = oddName, "coap://10.0.0.1:5683"
	return lwm2mtest.Register(l.t, l.net, "10.0.0.2:0", config)
}

// do makes a request about the device, with JSON as its body unless it is empty.
func (l *lab) do(method, path, body string) answer {
	l.t.Helper()
	return l.as("", method, path, body)
}

// as is do for a client with an Authorization.
func (l *lab) as(who, method, path, body string) answer {
	l.t.Helper()
	r := httptest.NewRequestWithContext(l.t.Context(), method, "/ota/api/v1/devices/"+url.PathEscape(oddName)+"/"+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("Authorization", who)
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	a := w.Result()
	a.Request = r
	return answer{a, w.Body.Bytes()}
}

// ok is do for a request that succeeds.
func (l *lab) ok(status int, method, path, body string) string {
	l.t.Helper()
	a := l.do(method, path, body)
	require.Equal(l.t, status, a.StatusCode, "%s %s %s: %s", method, path, body, a.body)
	if status == http.StatusNoContent {
		require.Empty(l.t, a.body)
	}
	return string(a.body)
}

// objectAll has a resource of each type, whose identifier is that of the type; those of 20 and more
// are multiple.
const objectAll = 30000

var allTypes = []lwm2m.Type{
	lwm2m.TypeString, lwm2m.TypeInteger, lwm2m.TypeUnsigned, lwm2m.TypeFloat, lwm2m.TypeBoolean, lwm2m.TypeOpaque, lwm2m.TypeTime,
	lwm2m.TypeObjectLink, lwm2m.TypeCoreLink,
}

func allModels(t *testing.T) *lwm2m.Models {
	t.Helper()
	o := &lwm2m.ObjectModel{ID: objectAll, Version: lwm2m.Version{Major: 1}, Name: "All", Multiple: true}
	for _, base := range []uint16{0, 20} {
		for _, typ := range allTypes {
			o.Resources = append(o.Resources, lwm2m.ResourceModel{
				ID: base + uint16(typ), Name: "A " + typ.String(), Type: typ, Operations: lwm2m.Readable | lwm2m.Writable, Multiple: base > 0,
			})
		}
	}
	for _, id := range []uint16{98, 99} {
		o.Resources = append(o.Resources, lwm2m.ResourceModel{ID: id, Name: "Run", Operations: lwm2m.Executable})
	}
	models := new(lwm2m.Models)
	require.NoError(t, models.Add(o))
	return models
}

// newAll returns the object, and the arguments of the executes that it gets.
func newAll() (*lwm2m.ValueObject, *[]string) {
	config := lwm2m.ValueObjectConfig{ID: objectAll, Writable: map[uint16]func(lwm2m.Value) error{}}
	for _, typ := range allTypes {
		config.Writable[uint16(typ)], config.Writable[20+uint16(typ)] = nil, nil
	}
	config.Values = []lwm2m.Entry{{Path: lwm2m.NewPath(objectAll, 0, uint16(lwm2m.TypeString)), Value: lwm2m.String("first")}}
	executed := new([]string)
	config.OnExecute = map[uint16]func(context.Context, uint16, string) error{
		99: func(_ context.Context, instance uint16, args string) error {
			*executed = append(*executed, fmt.Sprint(instance, " ", args))
			return nil
		},
		98: func(context.Context, uint16, string) error {
			return &lwm2m.ResponseError{Code: lwm2m.CodeMethodNotAllowed, Diagnostic: "not now"}
		},
	}
	config.OnCreate = func(context.Context, uint16, []lwm2m.Entry) error { return nil }
	config.OnDelete = func(context.Context, uint16) error { return nil }
	return lwm2m.NewValueObject(config), executed
}

// value is a value in an answer.
type value struct {
	Path, Type, Name, Unit, Time string
	Value                        json.RawMessage
}

func valuesOf(t *testing.T, body string) []value {
	t.Helper()
	var v struct{ Values []value }
	require.NoError(t, json.Unmarshal([]byte(body), &v))
	return v.Values
}

// shown are values of each type, as JSON that the API shows and takes.
var shown = map[string][]string{
	"string":           {`""`, `"é ☃ \u0001 \"\\ � 😀"`, `"null"`, `"9007199254740993"`},
	"integer":          {`0`, `-1`, `9007199254740991`, `-9007199254740991`, `"9007199254740992"`, `"9223372036854775807"`, `"-9223372036854775808"`},
	"unsigned_integer": {`0`, `9007199254740991`, `"9007199254740992"`, `"18446744073709551615"`},
	"float":            {`0`, `21.5`, `1e+300`, `5e-324`, `0.1`, `1.7976931348623157e+308`, `"NaN"`, `"Infinity"`, `"-Infinity"`},
	"boolean":          {`true`, `false`},
	"opaque":           {`""`, `"AA=="`, `"AQID"`, `"////"`},
	"time":             {`"1970-01-01T00:00:00Z"`, `"2026-01-02T15:04:05Z"`, `"1950-01-01T00:00:00Z"`, `"9999-12-31T23:59:59Z"`, `253402300800`, `"-9223372036854775808"`},
	"objlnk":           {`"0:0"`, `"3:0"`, `"65535:65535"`},
	"corelnk":          {`"</3/0>;a=\"b\""`},
}

// cannot reports whether a format cannot carry a value.
func cannot(format, typ, value string) bool {
	finite := !strings.Contains(value, "NaN") && !strings.Contains(value, "Infinity")
	switch format {
	case "text", "json", "senml-json", "senml-cbor":
		return typ == "float" && !finite
	case "opaque":
		return typ != "opaque"
	}
	return false
}

// TestEveryValueInEveryFormat writes values of each type in each content format, and reads them in
// each: they are the same to the last digit.
func TestEveryValueInEveryFormat(t *testing.T) {
	models := allModels(t)
	inLab(t, models, httpapi.Config{}, func(t *testing.T, l *lab) {
		object, _ := newAll()
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}, Models: models, Version: "1.2"})
		formats := []string{"", "text", "opaque", "cbor", "tlv", "json", "senml-json", "senml-cbor", "lwm2m-cbor"}
		query := func(format string) string {
			if format == "" {
				return ""
			}
			return "?format=" + format
		}
		for _, typ := range allTypes {
			word := map[lwm2m.Type]string{
				lwm2m.TypeString: "string", lwm2m.TypeInteger: "integer", lwm2m.TypeUnsigned: "unsigned_integer", lwm2m.TypeFloat: "float",
				lwm2m.TypeBoolean: "boolean", lwm2m.TypeOpaque: "opaque", lwm2m.TypeTime: "time", lwm2m.TypeObjectLink: "objlnk",
				lwm2m.TypeCoreLink: "corelnk",
			}[typ]
			path := fmt.Sprintf("resources/%d/0/%d", objectAll, typ)
			for _, v := range shown[word] {
				for _, to := range formats {
					body := `{"type":"` + word + `","value":` + v + `}`
					if to == "" {
						body = `{"value":` + v + `}` // the model says the type
					}
					a := l.do(http.MethodPut, path+query(to), body)
					if cannot(to, word, v) {
						requireProblem(t, a, http.StatusBadRequest, "bad-request")
						continue
					}
					require.Equal(t, http.StatusNoContent, a.StatusCode, "%s %s: %s", to, body, a.body)
				}
				for _, from := range formats {
					a := l.do(http.MethodGet, path+query(from), "")
					if cannot(cmp.Or(from, "text"), word, v) { // text is what the device chooses
						requireProblem(t, a, http.StatusNotAcceptable, "device-refused")
						continue
					}
					require.Equal(t, http.StatusOK, a.StatusCode, "%s: %s", from, a.body)
					got := valuesOf(t, string(a.body))
					require.Len(t, got, 1)
					require.Equal(t, fmt.Sprintf("/%d/0/%d", objectAll, typ), got[0].Path)
					require.Equal(t, word, got[0].Type)
					require.Equal(t, "A "+typ.String(), got[0].Name)
					if !strings.Contains(v, `\u`) {
						require.Equal(t, v, string(got[0].Value), "%s in %s", word, from)
					}
					require.JSONEq(t, v, string(got[0].Value))
					item, err := json.Marshal(map[string]any{"path": got[0].Path, "type": got[0].Type, "value": got[0].Value, "name": got[0].Name})
					require.NoError(t, err)
					l.ok(http.StatusNoContent, http.MethodPut, path, string(item)) // what was read can be written
				}
			}
		}
	})
}

// TestResourceCalls makes each call of a device's resources once.
func TestResourceCalls(t *testing.T) {
	models := allModels(t)
	inLab(t, models, httpapi.Config{}, func(t *testing.T, l *lab) {
		object, executed := newAll()
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}, Models: models, Version: "1.2"})
		const str, num, multiple = "30000/0/1", "30000/0/2", "30000/0/22"
		one := func(path string) string { return string(valuesOf(t, l.ok(200, "GET", "resources/"+path, ""))[0].Value) }
		require.Equal(t, `"first"`, one(str))
		require.Equal(t, `"first"`, one("/"+str), "a path may begin with a slash")

		// Partial and full writes of an instance.
		l.ok(204, "POST", "resources/30000/0", `{"values":[{"path":"/30000/0/2","value":7}]}`)
		require.Equal(t, `"first"`, one(str))
		require.Equal(t, `7`, one(num))
		l.ok(204, "PUT", "resources/30000/0", `{"values":[{"path":"/30000/0/2","value":8},{"path":"/30000/0/22/3","value":1},{"path":"/30000/0/22/5","value":2}]}`)
		p := requireProblem(t, l.do("GET", "resources/"+str, ""), 404, "device-refused")
		require.Equal(t, "4.04", p.Code)
		require.Len(t, valuesOf(t, l.ok(200, "GET", "resources/"+multiple, "")), 2)

		// A multiple resource and its instances.
		l.ok(204, "POST", "resources/30000/0", `{"values":[{"path":"/30000/0/22/9","value":1}]}`)
		l.ok(204, "PUT", "resources/"+multiple+"/9", `{"value":"9007199254740993"}`)
		require.Equal(t, `"9007199254740993"`, one(multiple+"/9"))
		l.ok(204, "DELETE", "resources/"+multiple+"/9", "")
		l.ok(204, "PUT", "resources/"+multiple, `{"values":[{"path":"/30000/0/22/1","value":5}]}`)
		require.Len(t, valuesOf(t, l.ok(200, "GET", "resources/"+multiple, "")), 1)
		l.ok(204, "PUT", "resources/"+multiple, `{"values":[]}`)
		requireProblem(t, l.do("GET", "resources/"+multiple, ""), 404, "device-refused")

		// Executes.
		l.ok(204, "POST", "resources/30000/0/99", "")
		l.ok(204, "POST", "resources/30000/0/99", `{"arguments":"0='a/b',3"}`)
		require.Equal(t, []string{"0 ", "0 0='a/b',3"}, *executed)
		p = requireProblem(t, l.do("POST", "resources/30000/0/98", ""), 400, "device-refused")
		require.Equal(t, "4.05", p.Code)
		require.Contains(t, p.Detail, `"not now"`)

		// Instances.
		a := l.do("POST", "resources/30000", `{"values":[{"path":"/30000/4/1","value":"new"}]}`)
		require.Equal(t, 201, a.StatusCode, "%s", a.body)
		require.JSONEq(t, `{"path":"/30000/4"}`, string(a.body))
		location, err := a.Request.URL.Parse(a.Header.Get("Location"))
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(location.EscapedPath(), "/resources/30000/4"), location)
		require.Equal(t, `"new"`, one("30000/4/1"))
		a = l.do("POST", "resources/30000", "") // the device chooses the instance
		require.Equal(t, 201, a.StatusCode, "%s", a.body)
		require.JSONEq(t, `{"path":"/30000/1"}`, string(a.body))
		l.ok(204, "DELETE", "resources/30000/4", "")
		requireProblem(t, l.do("DELETE", "resources/30000/4", ""), 404, "device-refused")

		// Composites.
		l.ok(204, "PUT", "resources", `{"values":[{"path":"/30000/0/1","value":"x"},{"path":"/30000/1/5","value":true},{"path":"/30000/0/22/1","type":"integer","value":6}]}`)
		got := valuesOf(t, l.ok(200, "GET", "resources?path=/30000/0/1&path=30000/1&path=/30000/0/77&format=senml-json", ""))
		require.Len(t, got, 2, "it leaves out what is absent")
		require.Equal(t, `"x"`, string(got[0].Value))
		require.Equal(t, "boolean", got[1].Type)
		p = requireProblem(t, l.do("PUT", "resources?format=application/senml-etch+cbor", `{"values":[{"path":"/30000/0/22/1","value":null}]}`), 400, "device-refused")
		require.Contains(t, p.Detail, "cannot be removed like this", "the device has got the null")
		require.NotEmpty(t, valuesOf(t, l.ok(200, "GET", "resources?path=/", "")))

		// Discover.
		require.NoError(t, l.srv.WriteAttributes(t.Context(), oddName, lwm2m.NewPath(objectAll, 0, 1), attributes(t)))
		type aLink struct {
			Path, Name, Version, Type, Operations string
			Dimension                             *int
			Attributes                            map[string]float64
		}
		var links struct{ Links []aLink }
		require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "resources/30000?discover=true", "")), &links))
		require.Equal(t, "/30000", links.Links[0].Path)
		require.Equal(t, "All", links.Links[0].Name)
		require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "resources/30000/0?discover=true", "")), &links))
		found := map[string]map[string]float64{}
		for _, link := range links.Links {
			found[link.Path] = link.Attributes
		}
		require.Equal(t, map[string]float64{"pmin": 5, "lt": 1.5}, found["/30000/0/1"], "%v", links)
		require.Contains(t, found, "/30000/0/99")
		l.ok(200, "GET", "resources/30000/0/1?discover=true", "")
		i := slices.IndexFunc(links.Links, func(link aLink) bool { return link.Path == "/30000/0/99" })
		require.Equal(t, "E", links.Links[i].Operations)
		i = slices.IndexFunc(links.Links, func(link aLink) bool { return link.Path == "/30000/0/1" })
		require.Equal(t, "RW string", links.Links[i].Operations+" "+links.Links[i].Type)

		// Write-Attributes.
		l.ok(204, "PUT", "resources/30000/0/1?attributes=true&timeout=10s", `{"attributes":{"pmin":null,"pmax":60,"lt":-2.5}}`)
		require.NoError(t, json.Unmarshal([]byte(l.ok(200, "GET", "resources/30000/0/1?discover=true", "")), &links))
		require.Equal(t, map[string]float64{"pmax": 60, "lt": -2.5}, links.Links[0].Attributes)
		l.ok(204, "PUT", "resources/30000?attributes=true", `{"attributes":{"pmin":1}}`)
		for body, field := range map[string]string{
			`{}`: "attributes", `{"attributes":{}}`: "attributes", `{"attributes":null}`: "attributes", `{"attributes":[]}`: "attributes",
			`{"attributes":{"pmin":1.5}}`: "attributes.pmin", `{"attributes":{"st":0}}`: "attributes.st", `{"attributes":{"pmin":"1"}}`: "attributes",
			`{"attributes":{"PMin":1}}`: "attributes.PMin", `{"attributes":{"pmin":1,"pmin":2}}`: "attributes.pmin",
			`{"attributes":{"` + strings.Repeat("x", 30) + `":1}}`: "attributes." + strings.Repeat("x", 20), `{"value":1}`: "value",
		} {
			p := requireProblem(t, l.do("PUT", "resources/30000/0/1?attributes=true", body), 400, "invalid-field")
			require.True(t, strings.HasPrefix(p.Field, field), "%s: %s", body, p.Field)
		}
		requireProblem(t, l.do("PUT", "resources/30000/0/1?attributes=true", `{"attributes":{"pmin":10,"pmax":5}}`), 400, "device-refused")
		requireProblem(t, l.do("PUT", "resources/30000/0/1?attributes=true&format=tlv", `{"attributes":{"pmin":1}}`), 400, "invalid-query")
		requireProblem(t, l.do("PUT", "resources/30000/0/1?attributes=yes", `{"attributes":{"pmin":1}}`), 400, "invalid-query")
		requireProblem(t, l.do("PUT", "resources?attributes=true", `{"attributes":{"pmin":1}}`), 400, "invalid-query")
	})
}

func attributes(t *testing.T) (a lwm2m.Attributes) {
	t.Helper()
	require.NoError(t, a.Set(lwm2m.AttributePMin, 5))
	require.NoError(t, a.Set(lwm2m.AttributeLT, 1.5))
	return a
}

// TestDeviceRefusals: each code of a device becomes a status, and the problem names the code.
func TestDeviceRefusals(t *testing.T) {
	var refusal lwm2m.ResponseError
	object := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID:        objectAll,
		Values:    []lwm2m.Entry{{Path: lwm2m.NewPath(objectAll, 0, 1), Value: lwm2m.Float(math.NaN())}},
		OnExecute: map[uint16]func(context.Context, uint16, string) error{2: func(context.Context, uint16, string) error { return &refusal }},
	})
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		for code, status := range map[lwm2m.ResponseCode]int{
			lwm2m.CodeBadRequest: 400, lwm2m.CodeUnauthorized: 403, 0x82: 400, lwm2m.CodeForbidden: 403, lwm2m.CodeNotFound: 404,
			lwm2m.CodeMethodNotAllowed: 400, lwm2m.CodeNotAcceptable: 406, lwm2m.CodeIncomplete: 400, lwm2m.CodeConflict: 409,
			lwm2m.CodePreconditionFailed: 412, lwm2m.CodeTooLarge: 413, lwm2m.CodeUnsupportedFormat: 415, 0x96: 400,
			lwm2m.CodeTooManyRequests: 429, lwm2m.CodeInternal: 502, lwm2m.CodeNotImplemented: 501, 0xa2: 502, lwm2m.CodeUnavailable: 503,
			0xbf: 502,
		} {
			refusal = lwm2m.ResponseError{Code: code, Diagnostic: strings.Repeat("é", 128)}
			p := requireProblem(t, l.do("POST", "resources/30000/0/2?timeout=10m", ""), status, "device-refused")
			require.Equal(t, code.String(), p.Code)
			require.Less(t, len(p.Detail), 400)
		}
	})
}

// TestDeviceThatDoesNotAnswer: problems say whether a request was sent.
func TestDeviceThatDoesNotAnswer(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 404, "not-found")
		ctx, cancel := context.WithCancel(t.Context())
		client, err := lwm2m.NewClient(lwm2m.ClientConfig{
			Endpoint: oddName, Server: "coap://10.0.0.1:5683", Listen: listen(l.net, "10.0.0.2:0"),
		})
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- client.Run(ctx) }()
		require.NoError(t, client.WaitRegistered(t.Context()))

		l.net.SetDefault(simnet.Conditions{Cut: true})
		begin := time.Now()
		requireProblem(t, l.do("GET", "resources/3/0/3?timeout=2s", ""), 504, "no-answer")
		require.Equal(t, 2*time.Second, time.Since(begin))
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 504, "no-answer")
		require.Equal(t, 32*time.Second, time.Since(begin))
		requireProblem(t, l.do("GET", "resources/3/0/3?timeout=600", ""), 504, "no-answer")
		require.Less(t, time.Since(begin), 5*time.Minute, "CoAP gives up before")
		requireProblem(t, l.do("POST", "resources/3/0/4?timeout=5s", ""), 504, "delivery-unknown")
		l.net.SetDefault(simnet.Conditions{})
		time.Sleep(10 * time.Minute)
		l.ok(200, "GET", "resources/3/0", "")
		cancel()
		require.NoError(t, <-ended)
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 503, "not-registered")
	})
}

// TestBodiesThatLoseValues: the API refuses a body of which the device would not get each value.
func TestBodiesThatLoseValues(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		object, _ := newAll()
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}})
		const twice = `{"values":[{"path":"/30000/0/2","value":1},{"path":"30000/0/2","value":2}]}`
		const above = `{"values":[{"path":"/30000/0/22","value":1},{"path":"/30000/0/22/1","value":2}]}`
		const below = `{"values":[{"path":"/30000/0/22/1","value":1},{"path":"/30000/0/22","value":2}]}`
		const empty = `{"values":[{"path":"/30000/0/22","type":"none","value":null}]}`
		for _, call := range [][4]string{
			{"PUT", "30000/0/2", twice, "values[1].path"}, {"PUT", "30000/0", twice, "values[1].path"},
			{"POST", "30000/0", twice, "values[1].path"}, {"POST", "30000", twice, "values[1].path"}, {"PUT", "", twice, "values[1].path"},
			{"PUT", "30000/0/22", above, "values[1].path"}, {"POST", "30000/0", below, "values[1].path"}, {"PUT", "", below, "values[1].path"},
			{"PUT", "", empty, "values[0].type"}, {"POST", "30000/0", empty, "values[0].type"},
			{"PUT", "30000/0/22/1", `{"type":"none","value":null}`, "type"},
		} {
			p := requireProblem(t, l.do(call[0], strings.TrimSuffix("resources/"+call[1], "/"), call[2]), 400, "invalid-field")
			require.Equal(t, call[3], p.Field, "%v", call)
		}
		l.ok(204, "PUT", "resources/30000/0/22", `{"values":[{"path":"/30000/0/22/1","value":5}]}`)
		l.ok(204, "PUT", "resources/30000/0/22", `{"type":"none","value":null}`)
		requireProblem(t, l.do("GET", "resources/30000/0/22", ""), 404, "device-refused")
		l.ok(201, "POST", "resources/30000", `{"values":[{"path":"/30000/6","type":"none","value":null}]}`)
	})
}

// TestAnswersThatCannotBeRead: it is not the client's fault that a device answers in a format that
// cannot be read.
func TestAnswersThatCannotBeRead(t *testing.T) {
	inLab(t, allModels(t), httpapi.Config{}, func(t *testing.T, l *lab) {
		path := lwm2m.NewPath(objectAll, 0, uint16(lwm2m.TypeFloat))
		object := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
			ID: objectAll, Values: []lwm2m.Entry{{Path: path, Value: lwm2m.Opaque([]byte{1, 2})}},
		})
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{object}}) // without the model, for which it is no Float
		p := requireProblem(t, l.do("GET", "resources"+path.String(), ""), 502, "device-answer")
		require.Contains(t, p.Detail, "application/octet-stream for "+path.String()+" of type Float")
	})
}

// TestUpdateKeepsItsObject: while an update is active, calls that change the Firmware Update object
// get 409 and the id of the update.
func TestUpdateKeepsItsObject(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Objects: []lwm2m.Object{firmwareObject()}})
		l.ok(204, "POST", "resources/5/0/2", "")
		u, err := l.mgr.Start(t.Context(), firmware.Request{Endpoint: oddName, Image: l.image.ID, Hold: firmware.Hold{Holder: "test"}})
		require.NoError(t, err)
		for _, call := range [][3]string{
			{"PUT", "resources/5/0/1", `{"value":""}`}, {"PUT", "resources/5/0", `{"values":[]}`},
			{"POST", "resources/5/0", `{"values":[{"path":"/5/0/1","value":""}]}`}, {"POST", "resources/5/0/2", ""}, {"POST", "resources/5", ""},
			{"DELETE", "resources/5/0", ""}, {"PUT", "resources", `{"values":[{"path":"/3/0/14","value":"Z"},{"path":"/5/0/1","value":""}]}`},
			{"POST", "resources/33629/0/2", ""},
		} {
			p := requireProblem(t, l.do(call[0], call[1], call[2]), 409, "update-active")
			require.Equal(t, u.ID, p.Update, call)
		}
		require.Equal(t, "0", string(valuesOf(t, l.ok(200, "GET", "resources/5/0/3", ""))[0].Value))
	})
}

func firmwareObject() lwm2m.Object {
	return lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
		ID: 5, Values: []lwm2m.Entry{{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(0)}, {Path: lwm2m.NewPath(5, 0, 5), Value: lwm2m.Integer(0)}},
		OnExecute: map[uint16]func(context.Context, uint16, string) error{2: func(context.Context, uint16, string) error { return nil }},
	})
}

// TestRequestsAreBounded: a client that lets many requests wait leaves room to others, and a device
// takes so many at once.
func TestRequestsAreBounded(t *testing.T) {
	inLab(t, nil, httpapi.Config{MaxRequests: 100}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Queue: true})
		time.Sleep(2 * time.Minute) // it sleeps
		waiting := func(who string, n int) *sync.WaitGroup {
			var all sync.WaitGroup
			for range n {
				all.Go(func() { l.as(who, "GET", "resources/3/0/3?timeout=20s", "") })
			}
			synctest.Wait()
			return &all
		}
		all := waiting("Bearer a", 16)
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 429, "too-many")
		all.Wait()
		requireProblem(t, l.do("GET", "resources/3/0/3?timeout=1s", ""), 504, "no-answer")
	})
	inLab(t, nil, httpapi.Config{MaxRequests: 4}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Queue: true})
		time.Sleep(2 * time.Minute)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() { l.as(fmt.Sprint("Bearer ", i), "GET", "resources/3/0/3?timeout=20s", "") })
			synctest.Wait()
			if i < 3 {
				requireProblem(t, l.as(fmt.Sprint("Bearer ", i), "GET", "resources/3/0/3", ""), 429, "too-many")
			}
		}
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 503, "unavailable")
		all.Wait()
		requireProblem(t, l.do("GET", "resources/3/0/3?timeout=1s", ""), 504, "no-answer")
	})
}

// TestObserversLeaveRoomForRequests: observations last, so they do not take the places of requests.
func TestObserversLeaveRoomForRequests(t *testing.T) {
	inLab(t, nil, httpapi.Config{}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{})
		for range 16 {
			s := l.stream(ours + "resources/3/0/16?observe=true")
			require.Equal(t, 200, s.code)
			defer s.end()
		}
		p := requireProblem(t, l.do("GET", "resources/3/0/16?observe=true", ""), 429, "too-many")
		require.Contains(t, p.Detail, "event streams")
		l.ok(200, "GET", "resources/3/0/16", "")
	})
}

// TestClientThatGoes: a request ends when its client goes away.
func TestClientThatGoes(t *testing.T) {
	inLab(t, nil, httpapi.Config{MaxRequests: 1}, func(t *testing.T, l *lab) {
		l.device(lwm2m.ClientConfig{Queue: true})
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithCancelCause(t.Context())
		r := httptest.NewRequestWithContext(ctx, "GET", "/api/v1/devices/"+url.PathEscape(oddName)+"/resources/3/0", nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.ServeHTTP(httptest.NewRecorder(), r)
		}()
		synctest.Wait()
		requireProblem(t, l.do("GET", "resources/3/0/3", ""), 503, "unavailable")
		cancel(errors.New("gone"))
		<-done
		requireProblem(t, l.do("GET", "resources/3/0/3?timeout=1s", ""), 504, "no-answer")
	})
}
