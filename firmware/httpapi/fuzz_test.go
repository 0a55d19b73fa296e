package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/firmware/rollout"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/lwm2mtest"
	"github.com/otago-iot/otago/lwm2m/simnet"
	"github.com/otago-iot/otago/store/memory"
)

// FuzzHandler sends arbitrary requests to every call, also for the device "dev": an error is a
// problem document, and a 5xx status is one of the device.
func FuzzHandler(f *testing.F) {
	db := memory.New()
	images, err := firmware.OpenRepository(f.TempDir(), db, firmware.RepositoryConfig{})
	require.NoError(f, err)
	network := simnet.New(1)
	srv := lwm2mtest.Serve(f, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
	object, _ := newAll()
	lwm2mtest.Register(f, network, "10.0.0.2:0", lwm2m.ClientConfig{
		Endpoint: "dev", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{object, firmwareObject()}, Version: "1.2",
	})
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	require.NoError(f, err)
	image, err := images.Add(f.Context(), firmware.Image{Version: "1"}, strings.NewReader("image"))
	require.NoError(f, err)
	rollouts, err := rollout.NewManager(srv, manager, db, rollout.Config{})
	require.NoError(f, err)
	handler := handler(f, manager, httpapi.AllowAll, httpapi.Config{MaxImage: 1 << 10, Rollouts: rollouts})

	const jsonType = "application/json"
	f.Add("GET", "images", "limit=1&cursor=aW1hZ2VzOjE", "", "", "")
	f.Add("POST", "images", "version=2&name=n", "application/octet-stream", "", "bytes")
	f.Add("GET", "devices/a%2Fb", "", "", "", "")
	const many = `{"image":"` + "%s" + `","targets":{"endpoints":["dev"]},"stages":[{"size":1,"only":{"endpoints":["dev"]},"soak":"1m"},{"size":"100%%"}],` +
		`"window":{"days":["mon"],"from":"22:00","to":"04:00","zone":"device","fallback_zone":"UTC"},"rate":1.5,"update":{"deadline":60},"start":true}`
	f.Add("POST", "rollouts", "", jsonType, "key", fmt.Sprintf(many, image.ID))
	f.Add("POST", "rollouts", "dry_run=true", jsonType, "", `{"image":"`+image.ID+`","targets":{"select":{"version_below":"2.0.0","labels":{"a":"b"}}}}`)
	made, err := rollouts.Create(f.Context(), rollout.Request{Image: image.ID, Targets: rollout.Endpoints("dev", "other")})
	require.NoError(f, err)
	f.Add("GET", "rollouts/"+made.ID+"/members", "state=waiting&reason=not_started&limit=1", "", "", "")
	f.Add("GET", "rollouts/"+made.ID+"/events", "limit=1&cursor=bGluZXM6MQ", "", "", "")
	f.Add("PATCH", "rollouts/"+made.ID, "", jsonType, "", `{"rate":null,"window":null,"max_failure":0.5,"end_at":"2999-01-01T00:00:00Z"}`)
	f.Add("POST", "rollouts/"+made.ID+"/stop", "dry_run=true", jsonType, "", `{"mode":"cancel","reason":"x"}`)
	f.Add("POST", "rollouts/"+made.ID+"/retry", "", jsonType, "", `{"outcomes":["failed","unreachable"]}`)
	const dev = "devices/dev/resources"
	f.Add("GET", dev+"/3/0/3", "format=text&timeout=1s", "", "", "")
	f.Add("GET", dev+"/3", "discover=true", "", "", "")
	f.Add("GET", dev, "path=/3/0/3&path=/30000&format=application%2Fsenml%2Bjson", "", "", "")
	f.Add("PUT", dev, "timeout=5", jsonType, "", `{"values":[{"path":"/30000/0/1","value":"x"},{"path":"/30000/0/22/1","type":"integer","value":null}]}`)
	f.Add("PUT", dev+"/30000/0/1", "", jsonType, "", `{"value":"\ud83d\ude00"}`)
	f.Add("PUT", dev+"/30000/0/4", "format=tlv", jsonType, "", `{"type":"float","value":"NaN"}`)
	f.Add("PUT", dev+"/30000/0", "", jsonType, "", `{"values":[{"path":"/30000/0/7","type":"time","value":"2026-01-02T15:04:05Z"}]}`)
	f.Add("POST", dev+"/30000/0", "format=senml-cbor", jsonType, "", `{"values":[{"path":"/30000/0/6","type":"opaque","value":"AA=="}]}`)
	f.Add("POST", dev+"/30000/0/99", "", jsonType, "", `{"arguments":"0='x',3"}`)
	f.Add("POST", dev+"/30000", "", jsonType, "", `{"values":[{"path":"/30000/7/8","type":"objlnk","value":"3:0"}]}`)
	f.Add("DELETE", dev+"/30000/7", "", "", "", "")
	f.Add("GET", dev+"/3/0/3", "wait=false&timeout=1m", "", "", "")
	f.Add("HEAD", dev+"/30000/0/1", "observe=true", "", "", "")
	f.Add("HEAD", dev, "observe=true&path=/3/0", "", "", "")
	f.Add("GET", "devices/dev/requests/x", "", "", "", "")
	f.Add("DELETE", "devices/dev/requests/x", "", "", "", "")
	f.Add("PUT", dev+"/5/0/1", "", jsonType, "", `{"value":""}`)
	f.Add("POST", "updates", "", jsonType, "key", `{"endpoint":"dev","image":"`+image.ID+`","deadline":"1h","attempts":3}`)
	f.Add("POST", "updates", "", jsonType, "", `{"endpoint":"dev","image":"`+image.ID+`","deadline":1e3,"profile":"push"}`)
	f.Add("GET", "updates", "outcome=&state=idle&endpoint=dev", "", "", "")
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/cancel", "", jsonType, "", "{}")
	f.Add("POST", "updates", "", jsonType, "", `{"endpoint":"held","image":"`+image.ID+`","hold":{"holder":"h","until":"2099-01-02T15:04:05Z"}}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/hold", "", jsonType, "", `{"holder":"h","reason":"r","until":null}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/release", "", jsonType, "", `{"holder":"h"}`)
	f.Add("POST", "updates/01M8620V60H1XKRXAX53PBPXKF/served", "", jsonType, "", "{}")
	f.Add("HEAD", "events", "after=7&update=x", "", "", "")
	f.Fuzz(func(t *testing.T, method, path, query, contentType, key, body string) {
		if method == http.MethodGet && (strings.HasPrefix(path, "events") || strings.Contains(query, "observe")) {
			return // the answer does not end
		}
		u, err := url.Parse("/api/v1/" + path)
		if err != nil || strings.ContainsAny(method, " \r\n") || method == "" {
			return // no server passes on such a request
		}
		u.RawQuery = query
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL = method, u
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		if key != "" {
			r.Header.Set("Idempotency-Key", key)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code >= 400 {
			require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
			require.True(t, w.Code < 500 || w.Code > 500 && strings.Contains(path, "resources"), "%d %s", w.Code, w.Body)
		}
	})
}
